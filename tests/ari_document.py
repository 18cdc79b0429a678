"""Holds ARI's requests, answers and events against the document that Asterisk ships: Swagger 1.1.

The document is not part of this repository; where it is absent, :meth:`AriDocument.load` skips the test and says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from shared_documents import shared_path

PRIMITIVES: dict[str, type | tuple[type, ...]] = {
    "string": str, "int": int, "long": int, "double": (int, float), "boolean": bool, "object": dict, "Date": str,
    "containers": dict,
}  # fmt: skip
UNDOCUMENTED = {401, 403, 500}
"""What any request may be answered with."""


class AriDocument:
    """The resources, by path; the models of all of them together."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        resources = document["resources"].values()
        self.models: dict[str, Any] = {}
        self.operations: list[tuple[str, re.Pattern[str], Mapping[str, Any]]] = []
        for resource in resources:
            self.models |= resource["models"]
            for api in resource["apis"]:
                pattern = re.compile("/ari" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", api["path"]))
                self.operations += [(each["httpMethod"], pattern, each) for each in api["operations"]]
        # Literal paths first: /channels/externalMedia is no channel.
        self.operations.sort(key=lambda each: each[1].pattern.count("(?P"))

    @classmethod
    def load(cls) -> AriDocument:
        return cls(json.loads(shared_path("specs", "asterisk_ari.trimmed.json").read_text("utf-8")))

    def operation(self, method: str, path: str) -> Mapping[str, Any] | None:
        found = (each for verb, pattern, each in self.operations if verb == method and pattern.fullmatch(path))
        return next(found, None)

    def request_problems(
        self, method: str, path: str, query: Mapping[str, Any], body: Mapping[str, Any] | None
    ) -> list[str]:
        """Parameters come in the query, or as keys of the body; those that the document calls the body's only there."""
        operation = self.operation(method, path)
        if operation is None:
            return [f"there is no {method} {path}"]
        known = {each["name"]: each for each in operation.get("parameters", [])}
        problems = [f"{name} is no parameter" for name in {**query, **(body or {})} if name not in known]
        for name, parameter in known.items():
            kind, given = parameter["paramType"], {**query, **(body or {})}.get(name)
            if given is None:
                if parameter.get("required") and kind != "path":
                    problems.append(f"{name} is missing")
                continue
            if kind == "body" and name in query:
                problems.append(f"{name} belongs into the body")
            if name in query and parameter["dataType"] in ("int", "long"):
                given = int(given)
            allowed = (parameter.get("allowableValues") or {}).get("values")
            if allowed and given not in allowed:
                problems.append(f"{name} is {given!r}, none of {allowed}")
            problems += self.value_problems(parameter["dataType"], given, name)
        return problems

    def answer_problems(self, method: str, path: str, status: int, body: Any) -> list[str]:
        operation = self.operation(method, path)
        if operation is None:
            return [f"there is no {method} {path}"]
        if status >= 400:
            documented = {int(each["code"]) for each in operation.get("errorResponses", [])} | UNDOCUMENTED
            problems = [] if status in documented else [f"{status} is not documented"]
            keyed = isinstance(body, dict) and list(body) in (["message"], ["error"])
            return problems + ([] if keyed else ["an error has a message"])
        kind = operation["responseClass"]
        if kind == "void":
            return [] if status == 204 and body is None else [f"no body is expected with {status}"]
        return [] if kind == "binary" else self.value_problems(kind, body, "answer")

    def event_problems(self, event: Mapping[str, Any]) -> list[str]:
        kind = str(event.get("type"))
        if kind not in self.models:
            return [f"there is no event {kind}"]
        return self.model_problems(kind, event, kind, *self._bases(kind))

    def _bases(self, kind: str) -> Iterator[str]:
        for name, model in self.models.items():
            if kind in model.get("subTypes", []):
                yield name
                yield from self._bases(name)

    def value_problems(self, kind: str, value: Any, where: str) -> list[str]:
        if listed := re.fullmatch(r"List\[(.+)\]", kind):
            if not isinstance(value, list):
                return [f"{where} is no list"]
            of = listed[1]
            return [p for at, each in enumerate(value) for p in self.value_problems(of, each, f"{where}[{at}]")]
        if kind in self.models:
            return self.model_problems(kind, value, where)
        expected = PRIMITIVES.get(kind)
        if expected is None or not isinstance(value, expected) or (isinstance(value, bool) and kind != "boolean"):
            return [f"{where} is a {type(value).__name__}, no {kind}"]
        if kind == "Date":
            datetime.fromisoformat(value)
        return []

    def model_problems(self, kind: str, value: Any, where: str, *bases: str) -> list[str]:
        if not isinstance(value, dict):
            return [f"{where} is no {kind}"]
        properties: dict[str, Any] = {}
        for name in (*bases, kind):
            properties |= self.models[name]["properties"]
        problems = [f"{where}.{name} is not in {kind}" for name in value if name not in properties]
        for name, described in properties.items():
            if name not in value:
                if described.get("required"):
                    problems.append(f"{where}.{name} is missing")
                continue
            allowed = (described.get("allowableValues") or {}).get("values")
            if allowed and value[name] not in allowed:
                problems.append(f"{where}.{name} is {value[name]!r}, none of {allowed}")
            problems += self.value_problems(described["type"], value[name], f"{where}.{name}")
        return problems
