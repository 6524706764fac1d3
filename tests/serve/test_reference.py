"""The API's reference is read without anything from elsewhere, and tells all of the document."""

from __future__ import annotations

import html
import re

from serve.http.reference import fields, operations, reference_page, type_of


def test_it_loads_nothing_from_elsewhere_and_runs_no_script(client):
    answer = client.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text and "//" not in re.sub(r"<!.*?>", "", answer.text)
    loaded = re.findall(r'<link [^>]*href="([^"]+)"', answer.text)
    assert len(loaded) == 3
    for path in (*loaded, "/openapi.json"):
        assert client.get(path).status_code == 200
    assert client.get("/redoc").status_code == 404


def test_every_operation_field_and_answer_is_told(client):
    document = client.get("/openapi.json").json()
    page = html.unescape(client.get("/docs").text)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f'id="{method.upper()}{path}"' in page
            assert operation["description"] in page
            for parameter in operation.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in page
    for schema in document["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            assert f"<code>{name}</code>" in page
            assert field.get("description", "") in page
    (create,) = (one for one in operations(document) if (one.method, one.path) == CREATE)
    assert create.needs_key and {status for status, _, _ in create.answers} > {"200", "401"}
    (rows,) = [rows for media, rows in create.bodies.items() if media == "multipart/form-data"]
    told = {row.name: row for row in rows}
    assert told["prompt"].needed and told["input_reference"].needed and not told["seed"].needed
    assert "file" in told["input_reference"].type


CREATE = ("POST", "/v1/videos")


def test_types_are_told_in_words():
    assert type_of({"$ref": "#/components/schemas/Video"}) == "Video"
    assert type_of({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}) == (
        "integer (from 0) or null"
    )
    assert type_of({"enum": ["asc", "desc"]}) == '"asc" or "desc"'
    assert type_of({"const": True}) == "true"
    assert type_of({"type": "array", "items": {"type": "string", "format": "binary"}}) == (
        "list of file"
    )
    assert type_of({}) == "anything"
    assert fields({"type": "string"}, {}) == []


def test_what_a_document_says_is_text_and_no_markup():
    document = {
        "info": {"title": "<b>", "version": "1", "description": "<script>alert(1)</script>"},
        "paths": {},
    }
    assert "<script" not in reference_page(document) and "<b>" not in reference_page(document)
