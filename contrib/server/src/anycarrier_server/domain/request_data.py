"""Reading JSON that others sent: what is wrong is refused with every complaint in the FastAPI list shape (422).

Nothing that PostgreSQL or JSON cannot hold gets past here: NUL characters, numbers without end, endless nesting.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from anycarrier_server.refusals import Invalid

Model = TypeVar("Model", bound=BaseModel)

DEEPEST = 32
LARGEST = 2**63 - 1


def read_json(data: bytes | str, where: str) -> Any:
    """What the JSON says, when it is such that we can keep it."""
    value = parse_json(data, where)
    _storable(value, (where,), 0)
    return value


def parse_json(data: bytes | str, where: str) -> Any:
    """What the JSON says, whatever it is."""
    try:
        return pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as problem:
        raise Invalid([{"loc": [where], "msg": f"not JSON: {problem}", "type": "json_invalid"}]) from None


def read_as(model: type[Model], value: Any, where: str) -> Model:
    """``value`` as ``model``, when it is such that we can keep it."""
    _storable(value, (where,), 0)
    try:
        return model.model_validate(value)
    except ValidationError as failure:
        raise Invalid(complaints(failure, where)) from None


def complaints(failure: ValidationError, where: str) -> list[dict[str, Any]]:
    """pydantic's findings as ``[{loc, msg, type}]``; the input is not quoted, it may hold a secret."""
    found = failure.errors(include_url=False, include_context=False, include_input=False)
    return [
        {"loc": [where, *error["loc"]], "msg": error["msg"].removeprefix("Value error, "), "type": error["type"]}
        for error in found
    ]


def _storable(value: Any, loc: tuple[str | int, ...], depth: int) -> None:
    if isinstance(value, str):
        if "\0" in value or (not value.isascii() and _has_surrogate(value)):
            raise Invalid([{"loc": [*loc], "msg": "NUL or half a character", "type": "string_unicode"}])
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if not -LARGEST <= value <= LARGEST:
            raise Invalid([{"loc": [*loc], "msg": "the number is too large", "type": "int_parsing_size"}])
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid([{"loc": [*loc], "msg": "the number is not finite", "type": "finite_number"}])
    elif depth >= DEEPEST:
        raise Invalid([{"loc": [*loc], "msg": f"nested deeper than {DEEPEST}", "type": "recursion_loop"}])
    elif isinstance(value, dict):
        for key, inner in value.items():
            _storable(key, loc, depth)
            _storable(inner, (*loc, key), depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _storable(inner, (*loc, index), depth + 1)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)
