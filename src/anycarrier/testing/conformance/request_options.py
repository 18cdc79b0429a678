"""Options of a request: each one changes what is sent to the carrier, or is refused. None is dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from anycarrier.audio import AudioFormat
from anycarrier.calls import DialRequest, MachineDetection
from anycarrier.errors import ProviderError, UnsupportedOperation
from anycarrier.numbers import NumberFeature, NumberQuery, NumberType
from anycarrier.provider import Capability, Provider
from anycarrier.testing.conformance.kit import CALL_ID, QUERY, THEIRS, Kit
from anycarrier.testing.replay import always

Act = Callable[[Provider], Coroutine[Any, Any, object]]

DIAL_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # The reference may travel in the status URL alone, where the exchange puts it too.
    "reference": {
        "reference": "fedcba9876543210",
        "status_url": "https://voice.example.com/kit/main?ref=fedcba9876543210",
    },
    "timeout": {"timeout": 45},
    "time_limit": {"time_limit": 75},
    "machine_detection=detect": {"machine_detection": MachineDetection.DETECT},
    "machine_detection=wait_for_beep": {"machine_detection": MachineDetection.WAIT_FOR_BEEP},
    "record": {"record": True},
    "caller_id": {"caller_id": "+14155550142"},
    "digits": {"digits": "12#"},
    "headers": {"headers": {"X-Order": "7"}},
    "stream.format": {"stream": AudioFormat("PCMA", 8000)},
}
"""A name for the test -> what is changed in the call the kit places. Every optional field is here, but ``extra``."""

SEARCH_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "country": {"country": "CA", "area_code": "416"},
    "area_code": {"area_code": "212"},
    "contains": {"contains": "555"},
    "locality": {"locality": "San Francisco"},
    "region": {"region": "CA"},
    "type": {"type": NumberType.TOLL_FREE},
    "features": {"features": (NumberFeature.VOICE, NumberFeature.SMS)},
    "limit": {"limit": 7},
    "page": {"page": 2},
}
"""The same for the kit's search."""


TRANSFER_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "caller_id": {"caller_id": "+14155550142"},
    "headers": {"headers": {"X-Order": "7"}},
}
"""The same for a transfer, of a carrier that declares it."""


class RequestOptionChecks(Kit):
    @pytest.mark.parametrize("dial_option", DIAL_OPTIONS)
    def test_an_option_of_dial_is_sent_or_refused(self, dial_option: str) -> None:
        self.skip_without_rest()

        async def plain(provider: Provider) -> object:
            return await provider.dial(self.dial_request())

        async def changed(provider: Provider) -> object:
            options = dict(DIAL_OPTIONS[dial_option])
            if "stream" in options:
                options["stream"] = self.stream.model_copy(update={"format": options["stream"]})
            return await provider.dial(self.dial_request(**options))

        self.sent_or_refused("dial", dial_option, plain, changed)

    @pytest.mark.parametrize("search_option", SEARCH_OPTIONS)
    def test_an_option_of_search_numbers_is_sent_or_refused(self, search_option: str) -> None:
        self.skip_without_rest()

        async def plain(provider: Provider) -> object:
            return await provider.search_numbers(QUERY)

        async def changed(provider: Provider) -> object:
            return await provider.search_numbers(QUERY.model_copy(update=SEARCH_OPTIONS[search_option]))

        if self.sent(plain) is None:
            pytest.skip("capability: this carrier has no number inventory")
        self.sent_or_refused("search_numbers", search_option, plain, changed)

    @pytest.mark.parametrize("transfer_option", TRANSFER_OPTIONS)
    def test_an_option_of_transfer_is_sent_or_refused(self, transfer_option: str) -> None:
        if Capability.TRANSFER not in self.provider.capabilities:
            pytest.skip("capability TRANSFER: not declared")

        async def plain(provider: Provider) -> object:
            await provider.transfer(CALL_ID, THEIRS)
            return None

        async def changed(provider: Provider) -> object:
            await provider.transfer(CALL_ID, THEIRS, **TRANSFER_OPTIONS[transfer_option])
            return None

        self.sent_or_refused("transfer", transfer_option, plain, changed)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def sent_or_refused(self, operation: str, option: str, plain: Act, changed: Act) -> None:
        before, with_option, after = self.sent(plain), self.sent(changed), self.sent(plain)
        if with_option is None:
            return  # refused
        assert before is not None and after is not None, f"{operation} refuses the plain request of the kit"
        # Parts that differ between two equal requests (a time, an id made at random) show nothing.
        assert _differing(before, with_option) - _differing(before, after), (
            f"{operation} dropped {option}: what is sent is the same with it as without. Send it, or "
            f"raise self.unsupported({operation!r}, ...) where the carrier cannot be asked"
        )

    def sent(self, act: Act) -> dict[str, str] | None:
        """What one operation sends, part by part; None when it is refused as unsupported."""
        wire = always(500, json=self.error_bodies.get(500, {"message": "the kit says no"}))
        try:
            self.ask(wire, act)
        except UnsupportedOperation:
            return None
        except ProviderError:
            pass
        return {part: value for at, request in enumerate(wire.requests) for part, value in _parts(request, f"{at} ")}


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    return {part for part in one.keys() | other.keys() if one.get(part) != other.get(part)}


def _parts(request: httpx.Request, at: str) -> Iterator[tuple[str, str]]:
    """A request taken apart: its method and path, and each header, query parameter and field of the body."""
    yield f"{at}method", request.method
    yield f"{at}path", request.url.path
    for name, value in request.headers.items():
        if name != "content-length":
            yield f"{at}header {name}", value
    yield from _pairs(request.url.params.multi_items(), f"{at}query")
    text = request.content.decode("utf-8", "replace")
    try:
        yield from _fields(json.loads(text), f"{at}body")
    except ValueError:
        yield from _pairs(parse_qsl(text, keep_blank_values=True), f"{at}form")


def _pairs(pairs: Iterable[tuple[str, str]], at: str) -> Iterator[tuple[str, str]]:
    values: dict[str, list[str]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    for key, held in values.items():
        yield f"{at} {key}", json.dumps(sorted(held))


def _fields(value: Any, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _fields(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _fields(inner, f"{at}.{index}")
    else:
        yield at, json.dumps(value)


def optional_fields(model: type[DialRequest | NumberQuery]) -> set[str]:
    """The fields a request may go without, but ``extra``, which has a check of its own."""
    return {name for name, field in model.model_fields.items() if not field.is_required()} - {"extra"}
