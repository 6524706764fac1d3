"""Secrets are read from files on the node that needs them.

An application's arguments and environment travel in the open: Ray logs them, and its dashboard
shows them to whoever reaches it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

SECRET = re.compile(
    r"(PASSWORD|PASSWD|(?<!BY)PASS|_PWD|SECRET|TOKEN|CREDENTIALS_JSON|CONNECTION_STRING"
    r"|(?<!PUBLIC_)KEYS?)$"
)
"""Names of variables that hold a secret themselves, not the path of a file with one."""
REMEDIES = {
    "HANDI_API_KEYS": "name a file of keys in api_keys_file",
    "PGPASSWORD": "name a file with the password in store_password_file",
}


def check_environment(variables: Mapping[str, object]) -> None:
    """See that the variables of a deploy config's `env_vars` hold no secrets.

    Raises:
        ValueError: for the first one that does, by its name alone.
    """
    for name, value in variables.items():
        if SECRET.search(name.upper()) or _holds_password(str(value)):
            remedy = REMEDIES.get(name.upper(), "set it on the nodes themselves")
            raise ValueError(
                f"env_vars: {name} holds a secret, and Ray's logs and dashboard show it; {remedy}, "
                "and replace what was shown"
            )


def check_url(key: str, url: str) -> None:
    """See that a URL holds no password.

    Raises:
        ValueError: if it does, in a line without it.
    """
    if _holds_password(url):
        remedy = (
            "leave it out, and name a file with it in store_password_file"
            if key == "store"
            else "leave it out, and configure the storage on the nodes"
        )
        raise ValueError(
            f"{key}: the URL holds a password, and Ray's logs and dashboard show it; {remedy}"
        )


def _holds_password(url: str) -> bool:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return False  # whoever opens it says what is wrong
    named = {name.lower() for name in parsed.query}
    return bool(parsed.password or {"password", "passwd"} & named)


def read_secret(key: str, path: str) -> str:
    """What stands in a file, without the white space around it.

    Args:
        key: that names the file, for the message.

    Raises:
        ValueError: if it cannot be read, or nothing stands in it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            secret = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not a text"
        raise ValueError(
            f"{key}: {path} cannot be read: {why}; the file must be on every node"
        ) from None
    if not secret:
        raise ValueError(f"{key}: {path} is empty")
    return secret
