"""REST: the four operations every carrier has, answered from cassettes; every failure has its own typed error."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import httpx
import pytest

from anycarrier.calls import Call, CallStatus, Direction
from anycarrier.errors import (
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
from anycarrier.numbers import AvailableNumber
from anycarrier.provider import Capability, Provider
from anycarrier.testing.conformance.kit import CALL_ID, QUERY, TICKET, Kit
from anycarrier.testing.replay import Wire, always, broken
from anycarrier.webhooks import WebhookReply

HTML = "<html><head><title>502 Bad Gateway</title></head></html>"
Act = Callable[[Provider], Coroutine[Any, Any, Any]]
LEAKED = "kit-key-4d7a91"


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
        call, wire = self.played("dial", lambda p: p.dial(self.dial_request()))
        assert isinstance(call, Call)
        assert call.id and call.provider == self.name and call.direction is Direction.OUTBOUND
        assert call.from_.startswith("+") and call.to.startswith("+"), "from_ and to must be the numbers of the call"
        assert call.reference == "0123456789abcdef", "the reference of the request must be on the call"
        assert call.status in (CallStatus.QUEUED, CallStatus.INITIATED, CallStatus.RINGING)
        assert len(wire.requests) == 1, f"dial made {len(wire.requests)} requests"
        if Capability.INSTRUCT not in self.provider.capabilities:  # such a carrier asks for the media URL later
            assert TICKET in wire.sent, "the media URL and its ticket did not reach the carrier"
        self.keeps_no_secret(call)

    def test_answer_connects_the_stream(self) -> None:
        self.skip_without_rest()
        incoming = self.incoming()
        reply, wire = self.played("answer", lambda p: p.answer(incoming, self.stream))
        assert isinstance(reply, WebhookReply)
        assert 200 <= reply.status < 300
        told = wire.sent + reply.body.decode()
        assert self.stream.url in told, "neither the reply nor a request says where the audio goes"
        assert TICKET in told, f"ticket_place is {self.provider.ticket_place}, and the carrier is not told the ticket"
        assert bool(wire.requests) != self.provider.answers_in_reply, "answers_in_reply does not say what answer does"

    def test_hang_up_answers(self) -> None:
        self.skip_without_rest()
        _, wire = self.played("hang_up", lambda p: p.hang_up(CALL_ID))
        assert wire.requests, "hang_up asked the carrier for nothing"

    def test_hanging_up_a_call_that_is_over_is_no_error(self) -> None:
        self.skip_without_rest()
        _, wire = self.played("hang_up_ended", lambda p: p.hang_up(CALL_ID))
        assert wire.requests, "hang_up asked the carrier for nothing"

    def test_extra_reaches_the_wire(self) -> None:
        self.skip_without_rest()
        request = self.dial_request(extra={"KitExtra": "kit-extra-7531"})
        wire = always(500, json={"message": "down"})
        with pytest.raises(ProviderError):
            self.ask(wire, lambda p: p.dial(request))
        assert "KitExtra" in wire.sent and "kit-extra-7531" in wire.sent, "dial dropped extra"
        if self.searches():
            wire = always(500, json={"message": "down"})
            query = QUERY.model_copy(update={"extra": {"KitExtra": "kit-extra-7531"}})
            with pytest.raises(ProviderError):
                self.ask(wire, lambda p: p.search_numbers(query))
            assert "KitExtra" in wire.sent and "kit-extra-7531" in wire.sent, "search_numbers dropped extra"

    @pytest.mark.parametrize("failure", ["500", "429", "timeout", "refused", "html"])
    def test_a_failed_dial_is_never_sent_again(self, failure: str) -> None:
        """A retried dial rings a person twice."""
        self.skip_without_rest()
        wire = self.failing(failure)
        with pytest.raises(ProviderError):
            self.ask(wire, lambda p: p.dial(self.dial_request()))
        assert len(wire.requests) == 1, f"{len(wire.requests)} requests went out for one dial"

    def test_a_request_that_cannot_be_written_is_no_call_of_unknown_outcome(self) -> None:
        """Nothing was sent, and it is the credential that has to be looked at."""
        self.skip_without_rest()
        with contextlib.suppress(ConfigurationError):  # some encode what they log in with, and can send anything
            self.ask(self.replayed("dial"), lambda p: p.dial(self.dial_request()), value="kit-sécret")
        wire = Wire(_illegal_header)
        with pytest.raises(ConfigurationError) as caught:
            self.ask(wire, lambda p: p.dial(self.dial_request()), value=LEAKED)
        assert LEAKED not in "".join(traceback.format_exception(caught.value)), "the traceback shows the key"

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
            self.ask(always(429, json=self.error_body(429), headers=headers), lambda p: p.dial(self.dial_request()))
        assert caught.value.retry_after == 7

    def test_a_regulated_number_is_refused_with_what_it_lacks(self) -> None:
        if not self.provider.requirement_codes:
            pytest.skip("capability: this carrier has no codes for what a regulated number lacks")
        for code, requirement in self.provider.requirement_codes.items():
            error = self.make().error("buy_number", 400, code=code, message="the kit says no")
            assert isinstance(error, RequirementsMissing), f"code {code} became {type(error).__name__}"
            assert error.requirements == (str(requirement),), f"code {code} names {error.requirements}"

    # --- helpers ----------------------------------------------------------------------------------------------------

    def error_of(self, wire: Wire, act: Act) -> ProviderError | UnsupportedOperation | None:
        try:
            self.ask(wire, act)
        except (ProviderError, UnsupportedOperation) as error:
            return error
        return None

    def searches(self) -> bool:
        """False when the plain query is what the carrier cannot be asked."""
        try:
            self.ask(always(500, json={}), lambda p: p.search_numbers(QUERY))
        except UnsupportedOperation:
            return False
        except ProviderError:
            pass
        return True

    def error_body(self, status: int) -> Any:
        return self.error_bodies.get(status, {"message": "the kit says no"})

    def failing(self, failure: str) -> Wire:
        match failure:
            case "timeout":
                return broken(httpx.ReadTimeout)
            case "refused":
                return broken(httpx.ConnectError)
            case "html":
                return always(200, text=HTML)
            case "503-html":
                return always(503, text=HTML)
            case "list":
                return always(200, json=[])
        return always(int(failure), json=self.error_body(int(failure)))
