"""The OpenAPI document of everything served, made from the faces' endpoint lists, so that it cannot name what is not
there; and ``/docs``, the document as a page to read and try out.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from anycarrier_server.http.endpoints import Endpoint, Face

STATUSES = {
    400: "The request cannot be done as things are",
    401: "No API key, or not a good one",
    403: "This key, or our policy, does not allow it",
    404: "There is no such thing",
    405: "The address does not know this method",
    409: "It conflicts with what there is",
    413: "The body is too long",
    422: "The request is not valid; each complaint names its place",
    429: "A limit is reached; Retry-After tells when to try again",
    500: "A bug of ours; the request id finds it in the log",
    501: "This carrier, or this service, does not do that",
    502: "The carrier refused or failed",
    503: "Not now: shutting down, overloaded, or the database is unavailable",
    504: "The carrier did not answer in time",
}
PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
TEMPLATE = "#/components/schemas/{model}"


def document(faces: Sequence[Face], origin: str = "http://127.0.0.1:8080") -> dict[str, Any]:
    """The whole document."""
    schemas, components = _schemas(faces)
    schemas, components = _tidied(schemas), _tidied(components)
    paths: dict[str, dict[str, Any]] = {}
    for face in faces:
        for one in face.endpoints:
            if not one.hidden:
                path = PARAMETER.sub(r"{\1}", one.path)
                paths.setdefault(path, {})[one.method.lower()] = _operation(face, one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "anycarrier",
            "version": version("anycarrier"),
            "description": "Bring your own carrier to a voice agent.",
        },
        "servers": [{"url": origin}],
        "security": [{"bearer": []}, {"header": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "tags": [{"name": face.name, "description": face.title} for face in faces],
    }


Key = tuple[int, JsonSchemaMode]


def _schemas(faces: Sequence[Face]) -> tuple[dict[Key, dict[str, Any]], dict[str, Any]]:
    """Every model's schema by identity and mode, and the shared components."""
    wanted: dict[Key, tuple[int, JsonSchemaMode, TypeAdapter[Any]]] = {}
    for face in faces:
        for what, mode in _models(face):
            wanted.setdefault((id(what), mode), (id(what), mode, TypeAdapter(what)))
    inputs = [((str(i), mode), mode, adapter) for i, mode, adapter in wanted.values()]
    found, shared = TypeAdapter.json_schemas(
        [((key), mode, adapter) for key, mode, adapter in inputs],
        ref_template=TEMPLATE,
        schema_generator=GenerateJsonSchema,
    )
    components: dict[str, Any] = dict(shared.get("$defs", {}))
    names = {name: _stable(name) for name in components}
    assert len(set(names.values())) == len(names), "two models of one face share a name: rename one"
    schemas = {(int(key[0]), mode): _renamed(schema, names) for (key, mode), schema in found.items()}
    return schemas, {names[name]: _renamed(schema, names) for name, schema in components.items()}


def _stable(name: str) -> str:
    """A component's name without the path of its module, which pydantic adds where two faces share a model's name:
    ``anycarrier_server__inkbox__errors__ErrorBody`` becomes ``InkboxErrorBody``."""
    path, _, model = name.rpartition("__")
    return f"{path.split('__')[-2].capitalize()}{model}" if path else name


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A schema with its references under the new names."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            value = {**value, "$ref": TEMPLATE.format(model=names[reference.rpartition("/")[2]])}
        return {name: _renamed(inner, names) for name, inner in value.items()}
    return [_renamed(inner, names) for inner in value] if isinstance(value, list) else value


def _tidied(value: Any) -> Any:
    """Descriptions in Markdown; and no empty default: it says nothing but "may be left out", and contradicts types that
    cannot be empty."""
    if isinstance(value, dict):
        return {
            name: _markdown(inner) if name == "description" and isinstance(inner, str) else _tidied(inner)
            for name, inner in value.items()
            if not (name == "default" and inner in (None, "", []))
        }
    return [_tidied(inner) for inner in value] if isinstance(value, list) else value


def _markdown(docstring: str) -> str:
    """A docstring as readers of the document expect it; indented lines would be code to them."""
    return inspect.cleandoc(docstring).replace("``", "`")


def _models(face: Face) -> Iterable[tuple[Any, JsonSchemaMode]]:
    yield face.error, "serialization"
    for one in face.endpoints:
        if one.hidden:
            continue
        if one.body is not None:
            yield one.body, "validation"
        if one.answer is not None:
            yield one.answer, "serialization"


def _operation(face: Face, one: Endpoint, schemas: dict[Key, dict[str, Any]]) -> dict[str, Any]:
    words = re.sub(r"\W+", "_", f"{one.method.lower()}{one.path}").strip("_")
    operation: dict[str, Any] = {
        "operationId": words,
        "summary": one.summary,
        "tags": [face.name],
        "responses": _responses(face, one, schemas),
    }
    if one.handle.__doc__:
        operation["description"] = _markdown(one.handle.__doc__)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in PARAMETER.findall(one.path)
    ]
    parameters += _query(one.query) if one.query is not None else []
    parameters += [
        {"name": name, "in": "header", "required": False, "description": what, "schema": {"type": "string"}}
        for name, what in one.headers.items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if one.body is not None:
        operation["requestBody"] = {
            "required": _needed(one.body),
            "content": {"application/json": {"schema": schemas[(id(one.body), "validation")]}},
        }
    return operation


def _needed(model: type[BaseModel]) -> bool:
    """False when an empty body will do: nothing in it is required, alone or as one of several."""
    extra = model.model_config.get("json_schema_extra")
    return any(field.is_required() for field in model.model_fields.values()) or (
        isinstance(extra, dict) and "anyOf" in extra
    )


def _query(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema(ref_template=TEMPLATE)
    definitions = schema.get("$defs", {})
    required = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _inlined(field, definitions)}
        for name, field in _tidied(schema.get("properties", {})).items()
    ]


def _inlined(value: Any, definitions: dict[str, Any]) -> Any:
    """A query parameter's schema with what it refers to written out: parameters have no components of their own."""
    if isinstance(value, dict):
        if "$ref" in value:
            return _inlined(definitions[value["$ref"].rpartition("/")[2]], definitions)
        return {name: _inlined(inner, definitions) for name, inner in value.items()}
    if isinstance(value, list):
        return [_inlined(inner, definitions) for inner in value]
    return value


def _responses(face: Face, one: Endpoint, schemas: dict[Key, dict[str, Any]]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done"}
    if one.status != 204 and one.answer is not None:
        good["content"] = {"application/json": {"schema": schemas[(id(one.answer), "serialization")]}}
    error = {"content": {"application/json": {"schema": schemas[(id(face.error), "serialization")]}}}
    refused = sorted({401, 413, 422, 429, 503, *one.refusals} - ({413} if one.body is None else set()))
    return {
        str(one.status): good,
        **{str(status): {"description": STATUSES[status], **error} for status in refused},
    }


def text(faces: Sequence[Face]) -> str:
    """docs/openapi.json, byte for byte."""
    return json.dumps(document(faces), indent=1, ensure_ascii=False) + "\n"


POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A key is typed here: nothing comes from elsewhere, nothing goes elsewhere, and nobody puts the page in a frame."""


async def show(request: Request) -> Response:
    """The page; it fetches /openapi.json itself."""
    page = (resources.files("anycarrier_server") / "docs_page.html").read_text()
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})
