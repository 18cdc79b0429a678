"""What the helpers for a carrier's REST API send, and what they make of its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from anycarrier.audio import L16_16K, PCMU_8K
from anycarrier.calls import DialRequest, Price, StreamTarget, price_of
from anycarrier.credentials import Credential
from anycarrier.errors import (
    InsufficientFunds,
    InvalidNumber,
    MalformedMessage,
    NotFound,
    NumberRejected,
    NumberUnavailable,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    RequirementsMissing,
    SignatureInvalid,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.numbers import (
    AvailableNumber,
    NumberQuery,
    NumberRequirement,
    NumberType,
    OwnedNumber,
    PendingOrder,
    SyncResult,
    digit_pattern,
    normal,
    north_american,
)
from anycarrier.parsing import decimal, fingerprint, integer, moment, seconds, sip_code, text_of
from anycarrier.provider import Provider
from anycarrier.refusals import Meaning
from anycarrier.rest import MOST_PAGES, given
from anycarrier.serializer import MediaSerializer, fits_json
from anycarrier.webhooks import WebhookReply, WebhookRequest, basic_login, require_login

Answer = Callable[[httpx.Request], httpx.Response]
NUMBER = "+14155550142"


class Brook(Credential):
    provider: str = "brook"
    key: SecretStr = SecretStr("s3cret-of-brook")
    base_url: str | None = None


class BrookProvider(Provider):
    name = "brook"
    credential_type = Brook
    base_url = "https://api.brook.example/v1/acct"
    order_poll = 0.01
    error_types = {
        "7": InsufficientFunds,
        "8": Meaning(PermissionDenied, "Allow the country first."),
        "9": Meaning(None, "Wait for the answer."),
    }
    error_words = (
        ("^403 8 ", Meaning(InsufficientFunds, "Pay.")),
        (r"\bnot in service\b", NumberRejected),
    )
    requirement_codes = {"no_address": NumberRequirement.ADDRESS}

    def headers(self) -> Mapping[str, str]:
        return {"authorization": "Bearer s3cret-of-brook"}

    def verify(self, request: WebhookRequest) -> None: ...
    def parse_webhook(self, request: WebhookRequest) -> Any: ...
    def serializer(self) -> MediaSerializer:
        raise NotImplementedError

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        return []

    async def dial(self, request: DialRequest) -> Any: ...
    async def answer(self, call: Any, stream: StreamTarget) -> WebhookReply:
        return WebhookReply()

    async def hang_up(self, call_id: str) -> None: ...


class Xml(BrookProvider):
    reads_xml = True


def brook(answer: Answer, kind: type[BrookProvider] = BrookProvider, **credential: Any) -> BrookProvider:
    return kind(Brook(**credential), httpx.AsyncClient(transport=httpx.MockTransport(answer)))


def saying(status: int = 200, **kwargs: Any) -> BrookProvider:
    return brook(lambda request: httpx.Response(status, **kwargs))


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "words"),
    [
        (400, {"code": 7, "message": "no"}, InsufficientFunds, "7", "no"),
        (400, {"errors": [{"code": "7", "message": "no"}, {"code": "1", "title": "And", "detail": "this"}]},
         InsufficientFunds, "7", "no; And: this"),
        (400, {"errors": {"code": "7", "detail": "no", "source": {"pointer": "/to"}}}, InsufficientFunds, "7",
         "no (at /to)"),
        (400, {"error": {"code": 7, "message": "no"}}, InsufficientFunds, "7", "no"),
        (400, {"errors": ["one", "two"]}, RequestRejected, None, "one; two"),
        (404, {"error": "not here"}, NotFound, None, "not here"),
        (420, {"error-code": "7", "error-code-label": "no"}, InsufficientFunds, "7", "no"),
        (400, {"type": 400, "title": "Bad", "invalid_parameters": [{"name": "to", "reason": "is short"}]},
         RequestRejected, None, "Bad; to is short"),
        (400, {"type": "validation", "description": "It is NOT in service"}, NumberRejected, None,
         "It is NOT in service"),
        (403, {"code": 8, "message": "no"}, InsufficientFunds, "8", "no"),
        (400, {"code": 8, "message": "no"}, PermissionDenied, "8", "no"),
        (409, {"code": 9, "message": "no"}, RequestRejected, "9", "no"),
        (400, {"code": "no_address"}, RequirementsMissing, "no_address", ""),
        (503, ["?"], ProviderUnavailable, None, "['?']"),
    ],
)  # fmt: skip
async def test_a_refusal_of_any_usual_shape_has_its_typed_error(
    status: int, body: Any, kind: type[ProviderError], code: str | None, words: str
) -> None:
    with pytest.raises(kind) as caught:
        await saying(status, json=body).request("GET", "/x", operation="look")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code, caught.value.message) == (status, code, words)


async def test_a_table_of_meanings_says_what_to_do() -> None:
    steps = ((400, 8, "Allow the country first."), (403, 8, "Pay."), (409, 9, "Wait for the answer."))
    for status, code, step in steps:
        with pytest.raises(ProviderError) as caught:
            await saying(status, json={"code": code}).request("GET", "/x", operation="look")
        assert caught.value.next_step == step


def test_an_override_that_names_the_kind_does_not_get_the_next_step_of_another() -> None:
    error = saying().error("look", 400, code="8", kind=NumberRejected)
    assert (type(error), error.next_step) == (NumberRejected, NumberRejected.next_step)


async def test_a_carrier_may_judge_a_refusal_itself_and_name_its_own_headers() -> None:
    class Judging(BrookProvider):
        retry_after_headers = ("x-reset", "retry-after")

        def meaning(self, status: int | None, code: str | None, message: str) -> Meaning:
            return Meaning(RateLimited, "Wait.") if status == 418 else super().meaning(status, code, message)

    def answer(request: httpx.Request) -> httpx.Response:
        status = int(request.url.path[-3:])
        headers = {"x-reset": "soon" if status == 429 else "3", "retry-after": "5"}
        body = {"code": 8 if status == 400 else None, "message": f"no {NUMBER}"}
        return httpx.Response(status, json=body, headers=headers)

    for status, wait in ((418, 3), (429, 5)):
        with pytest.raises(RateLimited) as caught:
            await brook(answer, Judging).request("GET", f"/{status}", operation="look")
        assert (caught.value.retry_after, NUMBER in str(caught.value)) == (wait, False)
    with pytest.raises(PermissionDenied):
        await brook(answer, Judging).request("GET", "/400", operation="look")


async def test_a_refusal_in_xml_is_read_by_every_carrier() -> None:
    xml = "<?xml version='1.0'?><R><Error><Code>7</Code><Description>no</Description></Error></R>"
    for headers in ({"content-type": "application/xml"}, {}):
        with pytest.raises(InsufficientFunds, match="no"):
            await saying(400, content=xml.encode(), headers=headers).request("GET", "/x", operation="look")


async def test_an_answer_in_xml_is_for_carriers_that_read_it() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<Order><id>1</id></Order>", headers={"content-type": "text/xml"})

    assert await brook(answer, Xml).ask(lambda root: root.findtext("id"), "GET", "/x", operation="look") == "1"
    with pytest.raises(UnreadableResponse, match="not JSON") as caught:
        await brook(answer).request("GET", "/x", operation="look")
    assert caught.value.status == 200


async def test_a_redirect_is_no_success() -> None:
    with pytest.raises(UnreadableResponse, match="redirect"):
        await saying(302, headers={"location": "https://elsewhere.example"}).request("POST", "/x", operation="hang_up")


async def test_only_the_refusals_that_were_named_are_tolerated() -> None:
    for refused in ((404, {}), (400, {"code": "over"})):
        provider = saying(refused[0], json=refused[1])
        with provider.tolerating(404, "over"):
            await provider.request("GET", "/x", operation="hang_up")
    for status, body in ((400, {"code": "no"}), (503, {"code": "over"}), (429, {"code": "over"})):
        provider = saying(status, json=body)
        with pytest.raises(ProviderError), provider.tolerating(404, "over"):
            await provider.request("GET", "/x", operation="hang_up")


# --- requests ---------------------------------------------------------------------------------------------------------


async def seen(method: str, path: str, credential: Mapping[str, Any] | None = None, **request: Any) -> httpx.Request:
    """The request that was sent."""
    kept: list[httpx.Request] = []
    provider = brook(lambda sent: kept.append(sent) or httpx.Response(200, json={}), **(credential or {}))  # type: ignore[func-returns-value]
    await provider.request(method, path, operation="look", **request)
    return kept[0]


async def test_forms_repeat_a_key_for_a_list() -> None:
    sent = await seen("POST", "/calls", data={"event": ["a", "b"], "to": NUMBER}, extra={"more": "1"})
    assert sent.content == b"event=a&event=b&to=%2B14155550142&more=1"


async def test_another_host_another_login_and_a_body_of_ones_own() -> None:
    sent = await seen("PUT", "/x", root="https://rest.brook.example", auth=("user", "pass"), content="<a/>",
                      headers={"content-type": "application/xml"})  # fmt: skip
    assert (str(sent.url), sent.content) == ("https://rest.brook.example/x", b"<a/>")
    assert basic_login(sent.headers["authorization"]) == ("user", "pass")
    assert sent.headers["content-type"] == "application/xml"


async def test_a_token_is_there_before_each_request_but_for_the_one_that_fetches_it() -> None:
    class Tokens(BrookProvider):
        token = ""

        async def log_in(self, operation: str) -> None:
            got = await self.request("POST", "/token", operation=operation, data={"a": "b"}, auth=("id", "secret"))
            self.token = got["token"]

        def headers(self) -> Mapping[str, str]:
            return {"authorization": f"Bearer {self.token}"}

    sent: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, request.headers["authorization"]))
        return httpx.Response(200, json={"token": "t1"})

    await brook(answer, Tokens).request("GET", "/x", operation="look")
    assert sent == [("/v1/acct/token", "Basic aWQ6c2VjcmV0"), ("/v1/acct/x", "Bearer t1")]


async def test_base_url_stands_for_every_host() -> None:
    sent = await seen("GET", "/x", {"base_url": "http://127.0.0.1:1/sandbox/"}, root="https://rest.brook.example")
    assert str(sent.url) == "http://127.0.0.1:1/sandbox/x"


@pytest.mark.parametrize("url", ["api.brook.example", "ftp://x", "https://x?y", "https://x#y", "http:///", "http://user:pass@x"])
def test_a_base_url_that_is_none_is_refused_when_it_is_entered(url: str) -> None:
    with pytest.raises(ValidationError, match="brook base_url is a URL"):
        Brook(base_url=url)


def test_given_leaves_out_what_is_not_set() -> None:
    assert given({"a": None, "b": "", "c": [], "d": 0, "e": False, "f": "x"}) == {"d": 0, "e": False, "f": "x"}


@pytest.mark.parametrize("text", ["", ".", "..", "../x", "a/b", "a?b", "a#b", "a%2fb", "a b", "é", "x" * 300, None])
def test_what_can_be_no_id_gets_into_no_path(text: str) -> None:
    with pytest.raises(NotFound):
        saying().path_id("hang_up", text)


@pytest.mark.parametrize("text", ["CA0123", "v3:abc_-", "c-15ac29a2-1331", "12.5"])
def test_an_id_is_left_as_it_is(text: str) -> None:
    assert saying().path_id("hang_up", text) == text


def test_words_and_fields_that_a_carrier_lacks_are_unsupported() -> None:
    provider = saying()
    assert provider.word("search_numbers", {NumberType.LOCAL: "Local"}, NumberType.LOCAL) == "Local"
    with pytest.raises(UnsupportedOperation, match="mobile is not among local"):
        provider.word("search_numbers", {NumberType.LOCAL: "Local"}, NumberType.MOBILE)
    provider.refuse_fields("search_numbers", NumberQuery(), locality="no places", features="no features")
    with pytest.raises(UnsupportedOperation, match=r"^brook does not support search_numbers: no places"):
        provider.refuse_fields("search_numbers", NumberQuery(locality="Oslo"), locality="no places")
    stream = StreamTarget(url="wss://a.example/x", format=PCMU_8K)
    provider.require_format("dial", stream, L16_16K, PCMU_8K)
    with pytest.raises(UnsupportedOperation, match="brook has L16 at 16000 Hz, no streams of PCMU at 8000 Hz"):
        provider.require_format("dial", stream, L16_16K)


# --- lists ------------------------------------------------------------------------------------------------------------


def by_offset(body: Any, params: Mapping[str, Any]) -> dict[str, Any] | None:
    return {**params, "offset": body["meta"]["offset"] + 2} if body["meta"]["next"] else None


async def test_every_page_of_a_list_is_asked_for() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.query.decode())
        at = int(request.url.params.get("offset", 0))
        rows = [{"id": n} for n in range(at, min(at + 2, 5))]
        return httpx.Response(200, json={"meta": {"offset": at, "next": "more" if at + 2 < 5 else None}, "rows": rows})

    found = await brook(answer).listed("/x", "rows", operation="look", params={"limit": 2}, after=by_offset)
    assert [row["id"] for row in found] == [0, 1, 2, 3, 4]
    assert asked == ["limit=2", "limit=2&offset=2", "limit=2&offset=4"]


@pytest.mark.parametrize("following", ["/v1/acct/x?page=1", "/x?page=1", "https://api.brook.example/v1/acct/x?page=1"])
async def test_the_next_page_may_be_a_link(following: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"next": None if "page" in str(request.url) else following, "rows": [{"a": 1}]})

    rows = await brook(answer).listed("/x", "rows", operation="look", after=lambda body, _: body["next"])
    assert len(rows) == 2
    assert asked == ["https://api.brook.example/v1/acct/x", "https://api.brook.example/v1/acct/x?page=1"]


@pytest.mark.parametrize(
    "following",
    ["https://evil.example/v1/acct/x", "http://api.brook.example/v1/acct/x", "@evil.example/x", ".evil.example/x", ""],
)
async def test_a_link_to_another_host_is_not_followed_with_our_login(following: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(200, json={"next": following, "rows": []})

    with pytest.raises(UnreadableResponse, match=r"another host|no path of the API"):
        await brook(answer).listed("/x", "rows", operation="look", after=lambda body, _: body["next"])
    assert asked == ["api.brook.example"]


async def test_what_a_shared_parser_calls_malformed_is_an_unreadable_answer() -> None:
    def read(body: object) -> object:
        raise MalformedMessage("not a call: no sid", "+14155550123")

    with pytest.raises(UnreadableResponse, match="not a call") as failed:
        await brook(lambda _: httpx.Response(200, json={})).ask(read, "GET", "/x", operation="look")
    assert "4155550123" not in str(failed.value)


async def test_pages_that_do_not_end_are_given_up() -> None:
    count = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return httpx.Response(200, json={"rows": [], "n": count})

    with pytest.raises(UnreadableResponse, match="its own next"):
        await brook(answer).listed("/x", "rows", operation="look", after=lambda body, params: params)
    count = 0
    with pytest.raises(UnreadableResponse, match=f"more than {MOST_PAGES} pages"):
        await brook(answer).listed("/x", "rows", operation="look", after=lambda body, _: {"n": body["n"]})
    assert count == MOST_PAGES


@pytest.mark.parametrize("body", [{"rows": {}}, {"rows": [1]}, {"other": [1]}, [], "x", {"rows": [{}]}])
async def test_a_list_of_another_shape_is_unreadable(body: Any) -> None:
    with pytest.raises(UnreadableResponse):
        await saying(json=body).listed("/x", "rows", operation="look", after=lambda body, _: body["next"])


@pytest.mark.parametrize("body", [{"rows": {}}, {"rows": [1]}, {"other": [1]}, [], "x", {"rows": None, "n": 1}])
def test_rows_of_another_shape_are_unreadable(body: Any) -> None:
    with pytest.raises(UnreadableResponse, match="no rows list"):
        saying().rows(body, "rows", "look")


async def test_an_answer_that_says_nothing_is_an_empty_list() -> None:
    for body in ({}, {"count": 0}):
        assert await saying(json=body).listed("/x", "rows", operation="look", after=lambda *_: None) == []


def test_a_part_of_an_answer_that_cannot_be_read_is_told_without_its_values() -> None:
    def number(row: Any) -> OwnedNumber:
        return OwnedNumber(id=row["id"], number=row["number"], provider="brook")

    assert saying().translate("list_numbers", number, {"id": "n1", "number": NUMBER}) == OWNED
    for row in ({"number": NUMBER}, {"id": "n1", "number": NUMBER[1:]}, NUMBER):
        with pytest.raises(UnreadableResponse) as caught:
            saying().translate("list_numbers", number, row)
        assert NUMBER[1:] not in str(caught.value) and caught.value.operation == "list_numbers"

    def malformed() -> None:
        raise MalformedMessage("not a call", NUMBER)

    with pytest.raises(UnreadableResponse, match="not a call"):
        saying().translate("dial", malformed)


# --- files ------------------------------------------------------------------------------------------------------------


async def test_a_file_behind_a_signed_link_is_fetched_without_our_login() -> None:
    logins: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        logins.append(request.headers.get("authorization"))
        if request.url.host == "files.example":
            return httpx.Response(200, content=b"RIFF")
        return httpx.Response(302, headers={"location": "https://files.example/a.wav"})

    provider = brook(answer)
    assert await provider.download("https://files.example/a.wav", operation="fetch_recording") == b"RIFF"
    assert logins == [None]
    assert await provider.download("/a.wav", operation="fetch_recording", login=True) == b"RIFF"
    assert logins == [None, "Bearer s3cret-of-brook", None]
    with pytest.raises(UnreadableResponse, match="another host"):
        await provider.download("https://files.example/a.wav", operation="fetch_recording", login=True)


async def test_a_file_that_does_not_come_has_a_typed_error() -> None:
    for status, kind in ((404, NotFound), (500, ProviderUnavailable), (204, UnreadableResponse)):
        with pytest.raises(kind):
            await saying(status).download("https://files.example/a.wav", operation="fetch_recording")

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    with pytest.raises(ProviderUnavailable):
        await brook(broken).download("https://files.example/a.wav", operation="fetch_recording")


# --- numbers ----------------------------------------------------------------------------------------------------------

PENDING = PendingOrder(id="o1", number=NUMBER, provider="brook")
OWNED = OwnedNumber(id="n1", number=NUMBER, provider="brook")


async def test_an_order_is_looked_at_until_it_is_fulfilled() -> None:
    told: list[Any] = [PENDING, ProviderUnavailable("brook", "look"), RateLimited("brook", "look"), OWNED]

    async def look(order_id: str) -> OwnedNumber | PendingOrder:
        assert order_id == "o1"
        one = told.pop(0)
        if isinstance(one, Exception):
            raise one
        return one  # type: ignore[no-any-return]

    assert await saying().wait_for_order(PENDING, 30, look) == OWNED
    assert told == []


async def test_an_order_that_takes_longer_comes_back_pending_and_one_that_fails_raises() -> None:
    class Slow(BrookProvider):
        looks = 0

        async def fetch_order(self, order_id: str) -> OwnedNumber | PendingOrder:
            Slow.looks += 1
            return PENDING.model_copy(update={"raw": {"looks": Slow.looks}})

    slow = brook(lambda request: httpx.Response(200), Slow)
    assert (await slow.wait_for_order(PENDING, 0)).raw == {"looks": 1}
    assert isinstance(await slow.wait_for_order(PENDING, 0.05), PendingOrder)
    assert Slow.looks > 2

    async def failed(order_id: str) -> OwnedNumber:
        raise NumberUnavailable("brook", "buy_number")

    with pytest.raises(NumberUnavailable):
        await slow.wait_for_order(PENDING, 30, failed)


async def test_what_is_pending_is_asked_at_once_and_until_its_time_is_up() -> None:
    told = [True, True, False]

    async def pending() -> bool:
        return told.pop(0) if len(told) > 1 else told[0]

    provider = saying()
    await provider.wait_while(pending, 0)
    assert told == [True, False]
    await provider.wait_while(pending, 30)
    assert told == [False]

    async def failed() -> bool:
        raise NumberUnavailable("brook", "release_number")

    with pytest.raises(NumberUnavailable):
        await provider.wait_while(failed, 30)


@pytest.mark.parametrize("text", ["4155550123", 4155550123, "14155550123", "+14155550123"])
def test_ten_digits_are_a_number_of_north_america(text: object) -> None:
    assert north_american(text) == "+14155550123"
    assert north_american("+441135550123") == "+441135550123"


@pytest.mark.parametrize("text", ["", "no number", None, "+415555012", "(415)55501", 415555])
def test_what_is_neither_ten_digits_nor_e164_is_no_number(text: object) -> None:
    with pytest.raises(InvalidNumber):
        north_american(text)


@pytest.mark.parametrize("told", [{}, {"word": None}, {"word": 5}, {"word": ["a"]}, [], None, "word"])
def test_a_text_that_is_not_there_or_something_else_is_empty(told: object) -> None:
    assert text_of(told, "word") == "" and text_of({"word": "a"}, "word") == "a"


def test_text_that_could_close_a_json_string_or_is_no_base64_is_not_put_into_one() -> None:
    assert fits_json("AA/+==") and not any(map(fits_json, ("", "é", 'AA"}', "AA\\")))


def test_what_a_sync_came_to() -> None:
    url = "https://a.example/x"
    done, would = SyncResult.of(["a", "b"], url, note="And so."), SyncResult.of(["a"], url, dry_run=True)
    assert (done.ok, done.changed, done.message) == (True, ("a", "b"), "wrote a, b. And so.")
    assert (would.message, SyncResult.of([], url).message) == ("would write a", "all was right already")
    failed = SyncResult.failed("no", url)
    assert (failed.ok, failed.message, failed.changed, failed.webhook_url) == (False, "no", (), url)
    assert done.at and failed.at


def test_a_number_that_is_not_held_is_not_shown_whole() -> None:
    error = saying().not_held("release_number", NUMBER)
    assert isinstance(error, NotFound) and NUMBER not in str(error) and error.operation == "release_number"


def test_numbers_with_and_without_the_plus() -> None:
    assert [normal(text) for text in ("14155550142", NUMBER)] == [NUMBER, NUMBER]
    assert [normal(text) for text in ("anonymous", "", None, "++14155550142", "04155550142", "1-415-555")] == [None] * 6


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", "2026-03-01 12:00:00", "Sun, 01 Mar 2026 12:00:00 +0000",
     "2026-03-01 17:30:00+05:30", "2026-03-01T12:00:00.000Z"],
)  # fmt: skip
def test_times_of_either_kind_are_in_utc(text: str) -> None:
    read = moment(text)
    assert read and read.isoformat() == "2026-03-01T12:00:00+00:00"


@pytest.mark.parametrize("text", ["", None, 5, "soon", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-99-99"])
def test_what_is_no_time_of_a_call_is_none(text: Any) -> None:
    assert moment(text) is None


def test_durations_counts_and_amounts() -> None:
    assert [seconds(x) for x in ("12", 1.5, "PT13.67S", "PT1H2M3S", "PT1M")] == [12, 1.5, 13.67, 3723, 60]
    assert [seconds(x) for x in ("", None, "-1", "nan", "inf", "PT", "x", 10**400, "PT1D")] == [None] * 9
    assert [integer(x) for x in ("7", 7, 0)] == [7, 7, 0]
    assert [integer(x) for x in ("", None, "-1", "1.5", "٣", True, "1" * 10, -1, 10**9)] == [None] * 9
    assert [sip_code(x) for x in ("486", 486, "unspecified", True, 0, 700, 99)] == [486, 486] + [None] * 5
    assert [decimal(x) for x in ("-0.0085", 2)] == [Decimal("-0.0085"), Decimal(2)]
    assert price_of("-0.0085", "USD") == price_of(0.0085, "USD") == Price(amount=Decimal("0.0085"), currency="USD")
    assert [price_of(*x) for x in ((None, "USD"), ("x", "USD"), ("1", None), ("1", "usd"), ("1", "US"))] == [None] * 5
    assert [decimal(x) for x in ("", None, "NaN", "inf", "x")] == [None] * 5


def test_a_fingerprint_is_of_the_message_and_not_of_its_order() -> None:
    assert fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"}) != fingerprint({"a": "1", "b": "3"})
    assert len(fingerprint({"a": "\ud800"})) == len(fingerprint(b"{}")) == 16
    assert fingerprint(b"{}") != fingerprint(b"[]")


# --- logins of webhooks -----------------------------------------------------------------------------------------------

BASIC = "Basic dXNlcjpwOmFzcw=="  # user:p:ass


def posted(authorization: str | None) -> WebhookRequest:
    return WebhookRequest("POST", "https://a.example/x", {"authorization": authorization} if authorization else {})


def test_a_webhooks_login_is_read() -> None:
    assert posted(BASIC).basic_login() == ("user", "p:ass")
    assert posted("bearer abc").bearer() == "abc"
    for wrong in (None, "Basic", "Basic ???", "Bearer dXNlcjpwYXNz", "Basic /////w=="):
        assert posted(wrong).basic_login() == ("", "")
    assert posted(BASIC).bearer() == ""


def test_a_webhook_without_the_right_login_is_refused() -> None:
    require_login(posted(BASIC), "user", "p:ass")
    for user, password in (("user", "x"), ("x", "p:ass"), ("", "p:ass"), ("user", None), (None, None), ("", "")):
        with pytest.raises(SignatureInvalid):
            require_login(posted(BASIC), user, password)
    for wrong in (None, "Basic Og==", "Bearer abc"):
        with pytest.raises(SignatureInvalid):
            require_login(posted(wrong), "user", "p:ass")


@pytest.mark.parametrize(
    ("contains", "asked"),
    [
        ("555", ("contains", "555")),
        ("555*", ("starts_with", "555")),
        ("*555", ("ends_with", "555")),
        ("*555*", ("contains", "555")),
        ("taxi*", ("starts_with", "8294")),
        ("5*5", ("contains", "")),
        ("+1415*", ("contains", "")),
        ("*", ("contains", "")),
    ],
)
def test_a_pattern_of_digits_says_where_they_stand(contains, asked):
    assert digit_pattern(contains) == asked
