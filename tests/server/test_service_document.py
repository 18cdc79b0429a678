"""The OpenAPI document: valid, whole, and the one that lies in docs/."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from anycarrier_server.app import faces
from anycarrier_server.http import openapi

FILE = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"


def test_the_document_in_docs_is_what_the_code_says(request: pytest.FixtureRequest) -> None:
    text = openapi.text(faces(sandbox=True))
    if request.config.getoption("write_docs"):
        FILE.write_text(text)
    assert FILE.read_text() == text, "stale: python -m anycarrier_server.app > docs/openapi.json"


def test_the_document_is_valid_openapi() -> None:
    validate(openapi.document(faces(sandbox=True)))


def test_every_endpoint_is_in_it_under_a_name_of_its_own() -> None:
    document = openapi.document(faces(sandbox=True))
    shown = [one for face in faces(sandbox=True) for one in face.endpoints if not one.hidden]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == len(shown) > 60
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for reference in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert reference in document["components"]["schemas"]


def test_no_component_is_named_after_the_module_it_is_written_in() -> None:
    names = openapi.document(faces(sandbox=True))["components"]["schemas"]
    assert {"InkboxErrorBody", "OneinboxErrorBody"} <= set(names)
    assert [name for name in names if "__" in name] == []


def test_the_page_for_people_loads_nothing_from_anywhere_else() -> None:
    page = (resources.files("anycarrier_server") / "docs_page.html").read_text()
    addresses: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            addresses.extend(value or "" for name, value in attrs if name in ("src", "href"))

    Links().feed(page)
    assert addresses == ["openapi.json"], "relative: the service may live under a path"
    assert "http://" not in page and "https://" not in page and "import(" not in page
