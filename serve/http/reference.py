"""The OpenAPI document as a page for people, which loads nothing from elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader

Document = dict[str, Any]
BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
    "minLength": "characters from",
    "maxLength": "characters to",
    "minItems": "items from",
    "maxItems": "items to",
    "pattern": "like",
}


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of a body."""

    name: str
    type: str
    needed: bool
    default: str
    description: str


@dataclass(frozen=True)
class Operation:
    """A method of a path.

    Attributes:
        bodies: fields by media type.
        answers: by status, what it means, and each media type with its kind of content.
    """

    method: str
    path: str
    description: str
    needs_key: bool
    parameters: list[Field]
    bodies: dict[str, list[Field]]
    answers: list[tuple[str, str, list[str]]]


def reference_page(document: Document) -> str:
    """HTML that tells all that the document does."""
    schemas = document.get("components", {}).get("schemas", {})
    environment = Environment(loader=PackageLoader("serve.http", "."), autoescape=True)
    return environment.get_template("reference.html.j2").render(
        info=document["info"],
        operations=operations(document),
        schemas={name: fields(schema, schemas) for name, schema in sorted(schemas.items())},
    )


def operations(document: Document) -> list[Operation]:
    """All of them, in the document's order."""
    schemas = document.get("components", {}).get("schemas", {})

    def content_of(part: Document) -> list[str]:
        return [
            f"{media}: {type_of(content.get('schema', {}))}"
            for media, content in part.get("content", {}).items()
        ]

    return [
        Operation(
            method=method.upper(),
            path=path,
            description=operation.get("description", operation.get("summary", "")),
            needs_key="security" in operation,
            parameters=[
                _field(one["name"], one.get("schema", {}), one.get("required", False), one)
                for one in operation.get("parameters", [])
            ],
            bodies={
                media: fields(content.get("schema", {}), schemas)
                for media, content in operation.get("requestBody", {}).get("content", {}).items()
            },
            answers=[
                (status, answer.get("description", ""), content_of(answer))
                for status, answer in sorted(operation["responses"].items())
            ],
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def fields(schema: Document, schemas: Document) -> list[Field]:
    """Of an object; none of what is no object."""
    while "$ref" in schema:
        schema = schemas[_name(schema)]
    needed = schema.get("required", [])
    return [
        _field(name, one, name in needed, one) for name, one in schema.get("properties", {}).items()
    ]


def type_of(schema: Document) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        return _name(schema)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " or ".join(type_of(one) for one in schema[choice])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(json.dumps(value, ensure_ascii=False) for value in values)
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        kind = f"list of {type_of(schema.get('items', {}))}"
    elif schema.get("format") == "binary" or "contentMediaType" in schema:
        kind = "file"
    bounds = [f"{words} {schema[key]}" for key, words in BOUNDS.items() if key in schema]
    return f"{kind} ({', '.join(bounds)})" if bounds else kind


def _field(name: str, schema: Document, needed: bool, told: Document) -> Field:
    default = schema.get("default")
    return Field(
        name=name,
        type=type_of(schema),
        needed=needed,
        default="" if default is None else json.dumps(default, ensure_ascii=False),
        description=told.get("description", ""),
    )


def _name(reference: Document) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
