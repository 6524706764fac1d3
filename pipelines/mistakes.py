"""What pydantic finds wrong with settings, told to a person."""

from __future__ import annotations

from pydantic import ValidationError


def first_mistake(error: ValidationError, form: str) -> str:
    """One line that names the key.

    Args:
        form: how a key is given, with `{}` for its name, such as `--{}`.
    """
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{key}: needed; give {form.format(key.replace('_', '-') if '--' in form else key)}"
    if first["type"] == "extra_forbidden":
        return f"{key}: no such key"
    given = "" if first["type"] == "value_error" else f", got {first['input']!r}"
    return f"{key}: {message}{given}" if key else message
