"""Holds HTTP requests and answers against a carrier's own OpenAPI document.

The documents are not part of this repository; where they are absent, :meth:`Spec.load` skips the test and says so.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
from openapi_schema_validator import OAS30Validator, OAS31Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from shared_documents import shared_path

SPEC = "urn:spec"
FORM = "application/x-www-form-urlencoded"


class Spec:
    """One OpenAPI 3.0 or 3.1 document.

    >>> spec = Spec.load("acme.json")
    >>> http = httpx.AsyncClient(transport=spec.transport(answer))   # every request and answer is checked
    >>> spec.seen                                                    # the operations used so far
    """

    def __init__(self, document: dict[str, Any], *, blank_clears: bool = False) -> None:
        """``blank_clears``: an empty form value means "unset this", whatever pattern a set value must match."""
        self.document = document
        self.blank_clears = blank_clears
        self.seen: set[tuple[str, str]] = set()
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self.registry: Registry[Any] = Registry().with_resource(SPEC, resource)
        self.dialect = OAS30Validator if document["openapi"].startswith("3.0") else OAS31Validator
        servers = {self._prefix(server["url"]) for server in document.get("servers", [])} or {""}
        self.prefix = f"(?:{'|'.join(map(re.escape, sorted(servers)))})"
        # Literal paths first: /numbers/search is not /numbers/{id}.
        templates = sorted(document["paths"], key=lambda template: (template.count("{"), template))
        self.paths = [(self._pattern(template), template) for template in templates]

    @classmethod
    def load(cls, name: str, *, blank_clears: bool = False) -> Spec:
        """The document ``name`` of the shared specs, read once; skips the test where it is absent."""
        return cls(_read(shared_path("specs", name)), blank_clears=blank_clears)

    @staticmethod
    def _prefix(url: str) -> str:
        return re.sub(r"^\w+://[^/]+", "", url).rstrip("/")

    def _pattern(self, template: str) -> re.Pattern[str]:
        return re.compile(self.prefix + re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+?)", re.escape(template)))

    # --- finding the operation --------------------------------------------------------------------------------

    def find(self, method: str, path: str) -> tuple[str, dict[str, str]] | None:
        """(path template, path values) of the operation that serves ``method path``, or None."""
        for pattern, template in self.paths:
            match = pattern.fullmatch(path)
            if match and method.lower() in self.document["paths"][template]:
                return template, match.groupdict()
        return None

    # --- checking ---------------------------------------------------------------------------------------------

    def request_problems(self, request: httpx.Request) -> list[str]:
        """What the document forbids in ``request``: unknown path or names, missing ones, values out of schema."""
        found = self.find(request.method, request.url.path)
        if found is None:
            return [f"no operation {request.method} {request.url.path}"]
        template, values = found
        self.seen.add((request.method, template))
        where = ["paths", template, request.method.lower()]
        problems = self._parameter_problems(where, values, request)
        return problems + self._body_problems(where, request)

    def response_problems(self, method: str, path: str, status: int, body: Any) -> list[str]:
        """What the document forbids in an answer; an undeclared error status is nobody's promise and passes."""
        found = self.find(method, path)
        if found is None:
            return [f"no operation {method} {path}"]
        where = ["paths", found[0], method.lower(), "responses"]
        declared = self._at(where)
        key = next((k for k in (str(status), f"{status // 100}XX") if k in declared), None)
        if key is None:
            return [f"status {status} is not declared, only {sorted(declared)}"] if status < 400 else []
        where, node = self._resolve([*where, key])
        kinds = [kind for kind in node.get("content", {}) if "json" in kind]
        if not kinds:
            return [f"{status} carries no body, got {body!r}"] if body is not None else []
        return self._problems([*where, "content", kinds[0], "schema"], body, "answer")

    def transport(self, answer: Callable[[httpx.Request], httpx.Response]) -> httpx.MockTransport:
        """A transport that fails the test on a request, or an answer of ``answer``, the document does not allow."""

        def handle(request: httpx.Request) -> httpx.Response:
            problems = self.request_problems(request)
            assert not problems, f"{request.method} {request.url.path}: " + "; ".join(problems)
            response = answer(request)
            body = json.loads(response.content) if response.content else None
            problems = self.response_problems(request.method, request.url.path, response.status_code, body)
            assert not problems, f"answer to {request.method} {request.url.path}: " + "; ".join(problems)
            return response

        return httpx.MockTransport(handle)

    # --- the parts --------------------------------------------------------------------------------------------

    def _parameter_problems(self, where: list[str], values: dict[str, str], request: httpx.Request) -> list[str]:
        sent: dict[str, list[str]] = {}
        for name, text in request.url.params.multi_items():
            sent.setdefault(name, []).append(text)
        problems = []
        known: set[str] = set()
        deep: list[str] = []
        for place, parameter in self._parameters(where):
            name = parameter["name"]
            if parameter["in"] == "path":
                texts = [values[name]] if name in values else []
            elif parameter["in"] == "query":
                known.add(name)
                if parameter.get("style") == "deepObject":
                    deep.append(name)
                texts = sent.get(name, []) or sent.get(f"{name}[]", [])
            else:
                continue
            if not texts:
                if parameter.get("required") and name not in deep:
                    problems.append(f"{parameter['in']} parameter {name} is missing")
                continue
            if "schema" in parameter:
                problems += self._text_problems([*place, "schema"], texts, name)
        for name in sent:
            plain = name.removesuffix("[]")
            if plain not in known and name not in known and not any(plain.startswith(f"{d}[") for d in deep):
                problems.append(f"query parameter {name} is unknown")
        return problems

    def _parameters(self, where: list[str]) -> Iterable[tuple[list[str], dict[str, Any]]]:
        for owner in (where[:-1], where):
            for index in range(len(self._at(owner).get("parameters", []))):
                yield self._resolve([*owner, "parameters", str(index)])

    def _body_problems(self, where: list[str], request: httpx.Request) -> list[str]:
        operation = self._at(where)
        if "requestBody" not in operation:
            return [f"{request.method} takes no body"] if request.content else []
        where, body = self._resolve([*where, "requestBody"])
        if not request.content:
            return ["the body is missing"] if body.get("required") else []
        kind = request.headers.get("content-type", "").split(";")[0]
        if kind not in body["content"]:
            return [f"content type {kind!r} is none of {sorted(body['content'])}"]
        schema = [*where, "content", kind, "schema"]
        if kind == FORM:
            return self._form_problems(schema, request.content.decode())
        value = json.loads(request.content)
        problems = self._problems(schema, value, "body")
        known = self._properties(schema)
        if known and isinstance(value, dict):
            problems += [f"body property {name} is unknown" for name in value if name not in known]
        return problems

    def _form_problems(self, where: list[str], text: str) -> list[str]:
        sent: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            sent.setdefault(name, []).append(value)
        properties = self._properties(where)
        schema = self._resolve(where)[1]
        problems = [f"form field {name} is missing" for name in schema.get("required", []) if name not in sent]
        for name, texts in sent.items():
            if name not in properties:
                problems.append(f"form field {name} is unknown")
            elif not (self.blank_clears and texts == [""]):
                problems += self._text_problems(properties[name], texts, name)
        return problems

    def _properties(self, where: list[str]) -> dict[str, list[str]]:
        """Property name -> its schema's place, through references and combinations."""
        where, schema = self._resolve(where)
        found = {name: [*where, "properties", name] for name in schema.get("properties", {})}
        for way in ("allOf", "oneOf", "anyOf"):
            for index in range(len(schema.get(way, []))):
                found = {**self._properties([*where, way, str(index)]), **found}
        return found

    def _text_problems(self, where: list[str], texts: list[str], name: str) -> list[str]:
        """Texts of a query or form hold numbers, booleans and lists as text; read them as the schema means them."""
        kind = self._kind(where)
        if kind == "array":
            items = self._kind([*self._resolve(where)[0], "items"])
            value: Any = [_typed(text, items) for text in texts]
        elif len(texts) > 1:
            return [f"{name} is given {len(texts)} times"]
        else:
            value = _typed(texts[0], kind)
        return self._problems(where, value, name)

    def _kind(self, where: list[str]) -> str:
        where, schema = self._resolve(where)
        if "type" in schema:
            kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            return str(next((k for k in kinds if k != "null"), "null"))
        for way in ("allOf", "oneOf", "anyOf"):
            if schema.get(way):
                return self._kind([*where, way, "0"])
        return "string"

    def _problems(self, where: list[str], value: Any, name: str) -> list[str]:
        pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in where)
        validator = self.dialect({"$ref": f"{SPEC}#/{_quoted(pointer)}"}, registry=self.registry)
        return [_told(name, error) for error in validator.iter_errors(value)]

    def _at(self, where: list[str]) -> Any:
        node: Any = self.document
        for part in where:
            node = node[int(part)] if isinstance(node, list) else node[part]
        return node

    def _resolve(self, where: list[str]) -> tuple[list[str], Any]:
        node = self._at(where)
        while "$ref" in node:
            where = [p.replace("~1", "/").replace("~0", "~") for p in node["$ref"].removeprefix("#/").split("/")]
            node = self._at(where)
        return where, node


@functools.cache
def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def _typed(text: str, kind: str) -> Any:
    if kind == "integer" and re.fullmatch(r"-?\d+", text):
        return int(text)
    if kind == "number" and re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text)
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


def _quoted(pointer: str) -> str:
    return pointer.replace("%", "%25").replace("{", "%7B").replace("}", "%7D").replace(" ", "%20")


def _told(name: str, error: Any) -> str:
    path = "".join(f"[{part!r}]" for part in error.absolute_path)
    return f"{name}{path}: {error.message[:200]}"
