"""REST: the four operations every carrier has, answered from cassettes; every failure has its own typed error.

And options of a request: each one changes what is sent to the carrier, or is refused. None is dropped in silence.
"""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import httpx
import pytest

from anycarrier.audio import AudioFormat
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, MachineDetection
from anycarrier.errors import (
    AnycarrierError,
    AuthenticationFailed,
    ConfigurationError,
    NotFound,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    RequirementsMissing,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.numbers import AvailableNumber, NumberFeature, NumberQuery, NumberType
from anycarrier.provider import Capability, Provider
from anycarrier.testing.conformance.kit import CALL_ID, OURS, QUERY, THEIRS, TICKET, Kit
from anycarrier.testing.replay import FakeTransport, answering, broken
from anycarrier.webhooks import WebhookReply

HTML = "<html><head><title>502 Bad Gateway</title></head></html>"
Act = Callable[[Provider], Coroutine[Any, Any, Any]]
LEAKED = "kit-key-4d7a91"
ODD_IDS = ["", ".", "..", "a b/../c?d#e", "%2F\0\n", "\ud800", "a" * 70_000]


def _illegal_header(request: httpx.Request) -> NoReturn:
    """What h11 says of a header it will not write: it quotes it."""
    raise httpx.LocalProtocolError(f"Illegal header value b'Bearer {LEAKED}\\n'", request=request)


FAILURES: dict[str, type[ProviderError]] = {
    "401": AuthenticationFailed,
    "404": RequestRejected,
    "429": RateLimited,
    "500": ProviderUnavailable,
    "503-html": ProviderUnavailable,
    "timeout": ProviderUnavailable,
    "refused": ProviderUnavailable,
    "html": UnreadableResponse,
    "list": UnreadableResponse,
}
CASES = [
    pytest.param(operation, failure, expected, id=f"{failure}-{expected.__name__}-{operation}")
    for operation in ("search_numbers", "dial", "hang_up")
    for failure, expected in FAILURES.items()
    if (operation, failure) != ("hang_up", "list")  # what a hang-up is answered is of no use to anybody
]


class RestChecks(Kit):
    def test_search_numbers_answers(self) -> None:
        self.skip_without_rest()
        try:
            found, _ = self.played("search_numbers", lambda p: p.search_numbers(QUERY))
        except UnsupportedOperation:
            pytest.skip("this carrier has no number inventory")
        assert found, "rest/search_numbers.yaml offers no number"
        assert {type(number) for number in found} == {AvailableNumber}
        assert {number.provider for number in found} == {self.name}
        assert all(number.raw for number in found), "an offer without raw"
        assert len({number.number for number in found}) == len(found)

    def test_dial_is_one_request_and_gives_the_call(self) -> None:
        self.skip_without_rest()
        call, transport = self.played("dial", lambda p: p.dial(self.dial_request()))
        assert isinstance(call, Call)
        assert call.id and call.provider == self.name and call.direction is Direction.OUTBOUND
        assert (call.from_, call.to) == (OURS, THEIRS), "from_ and to must be the numbers of the call"
        assert call.reference == "0123456789abcdef", "the reference of the request must be on the call"
        assert call.status in (CallStatus.QUEUED, CallStatus.INITIATED, CallStatus.RINGING)
        assert len(transport.requests) == 1, f"dial made {len(transport.requests)} requests"
        if Capability.INSTRUCT not in self.provider.capabilities:  # such a carrier asks for the media URL later
            assert TICKET in transport.sent, "the media URL and its ticket did not reach the carrier"
        self.keeps_good_facts(call)

    def test_answer_connects_the_stream(self) -> None:
        self.skip_without_rest()
        incoming = self.incoming()
        reply, transport = self.played("answer", lambda p: p.answer(incoming, self.stream))
        assert isinstance(reply, WebhookReply)
        assert 200 <= reply.status < 300
        told = transport.sent + reply.body.decode()
        assert self.stream.url in told, "neither the reply nor a request says where the audio goes"
        assert TICKET in told, f"ticket_place is {self.provider.ticket_place}, and the carrier is not told the ticket"
        if bool(transport.requests) == self.provider.answers_in_reply:
            pytest.fail(
                "answer sent a request to the carrier: set answers_in_reply = False on the provider"
                if transport.requests
                else "answer sent no request to the carrier, so the reply answers: set answers_in_reply = True"
            )

    def test_hang_up_answers(self) -> None:
        self.skip_without_rest()
        _, transport = self.played("hang_up", lambda p: p.hang_up(CALL_ID))
        assert transport.requests, "hang_up asked the carrier for nothing"

    def test_hanging_up_a_call_that_is_over_is_no_error(self) -> None:
        self.skip_without_rest()
        _, transport = self.played("hang_up_ended", lambda p: p.hang_up(CALL_ID))
        assert transport.requests, "hang_up asked the carrier for nothing"

    def test_extra_reaches_the_wire(self) -> None:
        self.skip_without_rest()
        request = self.dial_request(extra={"KitExtra": "kit-extra-7531"})
        transport = answering(500, json={"message": "down"})
        with pytest.raises(ProviderError):
            self.ask(transport, lambda p: p.dial(request))
        assert "KitExtra" in transport.sent and "kit-extra-7531" in transport.sent, "dial dropped extra"
        if self.searches():
            transport = answering(500, json={"message": "down"})
            query = QUERY.model_copy(update={"extra": {"KitExtra": "kit-extra-7531"}})
            with pytest.raises(ProviderError):
                self.ask(transport, lambda p: p.search_numbers(query))
            assert "KitExtra" in transport.sent and "kit-extra-7531" in transport.sent, "search_numbers dropped extra"

    @pytest.mark.parametrize("failure", ["500", "429", "timeout", "refused", "html"])
    def test_a_failed_dial_is_never_sent_again(self, failure: str) -> None:
        """A retried dial rings a person twice."""
        self.skip_without_rest()
        transport = self.failing(failure)
        with pytest.raises(ProviderError):
            self.ask(transport, lambda p: p.dial(self.dial_request()))
        assert len(transport.requests) == 1, f"{len(transport.requests)} requests went out for one dial"

    def test_a_request_that_cannot_be_written_is_no_call_of_unknown_outcome(self) -> None:
        """Nothing was sent, and it is the credential that has to be looked at."""
        self.skip_without_rest()
        with contextlib.suppress(ConfigurationError):  # some encode what they log in with, and can send anything
            self.ask(self.replayed("dial"), lambda p: p.dial(self.dial_request()), value="kit-sécret")
        transport = FakeTransport(_illegal_header)
        with pytest.raises(ConfigurationError) as caught:
            self.ask(transport, lambda p: p.dial(self.dial_request()), value=LEAKED)
        assert LEAKED not in "".join(traceback.format_exception(caught.value)), "the traceback shows the key"

    @pytest.mark.parametrize("call_id", ODD_IDS, ids=lambda text: ascii(text[:12]))
    def test_an_id_that_is_no_calls_has_the_carriers_answer_or_a_typed_error(self, call_id: str) -> None:
        """A webhook may bring any text for an id. What the provider lets through is one of this package's errors."""
        self.skip_without_rest()
        for act in (lambda p: p.hang_up(call_id), lambda p: p.fetch_call(call_id)):
            with contextlib.suppress(AnycarrierError):
                self.ask(answering(404, json=self.error_body(404)), act)

    @pytest.mark.parametrize(("operation", "failure", "expected"), CASES)
    def test_a_failure_has_its_own_error(self, operation: str, failure: str, expected: type[ProviderError]) -> None:
        self.skip_without_rest()
        if operation == "search_numbers" and not self.searches():
            pytest.skip("this carrier has no number inventory")
        acts: dict[str, Act] = {
            "search_numbers": lambda p: p.search_numbers(QUERY),
            "dial": lambda p: p.dial(self.dial_request()),
            "hang_up": lambda p: p.hang_up(CALL_ID),
        }
        error = self.error_of(self.failing(failure), acts[operation])
        if isinstance(error, UnsupportedOperation):
            # A carrier may say by 404 that a country has no numbers of that kind: there is no id in a search.
            assert (operation, failure) == ("search_numbers", "404"), f"{operation} calls a {failure} unsupported"
            return
        if error is None:
            # A carrier that does not know the call has nothing left to hang up.
            assert (operation, failure) == ("hang_up", "404"), f"{operation} took a {failure} for success"
            return
        assert isinstance(error, expected), f"{failure} became {type(error).__name__}, not {expected.__name__}"
        assert error.provider == self.name
        assert error.operation == operation, f"the error names operation {error.operation!r}"
        if isinstance(error, ProviderUnavailable) and operation == "dial":
            unsent = failure == "refused"
            assert error.outcome_unknown is not unsent, f"the outcome of a dial after {failure}: raise self.unanswered"
            assert ("do not dial again" in str(error)) is not unsent
        if failure.isdigit():
            assert error.status == int(failure)
        if failure == "404":
            assert isinstance(error, NotFound)

    def test_throttling_tells_how_long_to_wait_when_the_carrier_does(self) -> None:
        self.skip_without_rest()
        headers = {"retry-after": "7", "x-ratelimit-reset": "7"}
        with pytest.raises(RateLimited) as caught:
            self.ask(answering(429, json=self.error_body(429), headers=headers), lambda p: p.dial(self.dial_request()))
        assert caught.value.retry_after == 7

    def test_a_regulated_number_is_refused_with_what_it_lacks(self) -> None:
        if not self.provider.requirement_codes:
            pytest.skip("capability: this carrier has no codes for what a regulated number lacks")
        for code, requirement in self.provider.requirement_codes.items():
            error = self.make().error("buy_number", 400, code=code, message="the kit says no")
            assert isinstance(error, RequirementsMissing), f"code {code} became {type(error).__name__}"
            assert error.requirements == (str(requirement),), f"code {code} names {error.requirements}"

    # --- helpers ----------------------------------------------------------------------------------------------------

    def error_of(self, transport: FakeTransport, act: Act) -> ProviderError | UnsupportedOperation | None:
        try:
            self.ask(transport, act)
        except (ProviderError, UnsupportedOperation) as error:
            return error
        return None

    def searches(self) -> bool:
        """False when the plain query is what the carrier cannot be asked."""
        try:
            self.ask(answering(500, json={}), lambda p: p.search_numbers(QUERY))
        except UnsupportedOperation:
            return False
        except ProviderError:
            pass
        return True

    def error_body(self, status: int) -> Any:
        return self.error_bodies.get(status, {"message": "the kit says no"})

    def failing(self, failure: str) -> FakeTransport:
        match failure:
            case "timeout":
                return broken(httpx.ReadTimeout)
            case "refused":
                return broken(httpx.ConnectError)
            case "html":
                return answering(200, text=HTML)
            case "503-html":
                return answering(503, text=HTML)
            case "list":
                return answering(200, json=[])
        return answering(int(failure), json=self.error_body(int(failure)))


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
        detection = dial_option.startswith("machine_detection")
        if detection and not self.provider.detects_machines:
            pytest.skip("capability: anycarrier listens for answering machines itself")

        async def plain(provider: Provider) -> object:
            return await provider.dial(self.dial_request())

        async def changed(provider: Provider) -> object:
            options = dict(DIAL_OPTIONS[dial_option])
            if "stream" in options:
                options["stream"] = self.stream.model_copy(update={"format": options["stream"]})
            return await provider.dial(self.dial_request(**options))

        if detection and self.sent(changed) is None:
            pytest.fail("dial refuses machine detection: set detects_machines = False, and anycarrier listens itself")
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
        self.skip_without_rest()

        async def plain(provider: Provider) -> object:
            await provider.transfer(CALL_ID, THEIRS, status_url=self.status_url)
            return None

        async def changed(provider: Provider) -> object:
            await provider.transfer(CALL_ID, THEIRS, status_url=self.status_url, **TRANSFER_OPTIONS[transfer_option])
            return None

        self.sent_or_refused("transfer", transfer_option, plain, changed)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def sent_or_refused(self, operation: str, option: str, plain: Act, changed: Act) -> None:
        before, with_option, after = self.sent(plain), self.sent(changed), self.sent(plain)
        if with_option is None:
            return  # refused
        assert before is not None and after is not None, f"{operation} refuses the plain request of the kit"
        # Parts that differ between two equal requests (a time, an id made at random) show nothing.
        if not _differing(before, with_option) - _differing(before, after):
            pytest.fail(
                f"{operation} dropped {option}: what is sent is the same with it as without. Send it, or "
                f"raise self.unsupported({operation!r}, ...) where the carrier cannot be asked"
            )

    def sent(self, act: Act) -> dict[str, str] | None:
        """What one operation sends, part by part; None when it is refused as unsupported."""
        transport = answering(500, json=self.error_bodies.get(500, {"message": "the kit says no"}))
        try:
            self.ask(transport, act)
        except UnsupportedOperation:
            return None
        except ProviderError:
            pass
        sent = enumerate(transport.requests)
        return {part: value for at, request in sent for part, value in _parts(request, f"{at} ")}


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
