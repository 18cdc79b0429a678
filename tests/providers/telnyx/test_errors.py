"""Telnyx's refusals become typed errors that tell the next step and no secret, whatever form they come in."""

from __future__ import annotations

import json
import traceback

import pytest

from anycarrier.errors import (
    AuthenticationFailed,
    InsufficientFunds,
    NotFound,
    NumberRejected,
    NumberUnavailable,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from shared_documents import shared_path

DIGITS = "POST /calls/v3:x/actions/send_dtmf"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "10009", AuthenticationFailed),
        (401, "20002", AuthenticationFailed),
        (403, "20008", AuthenticationFailed),
        (403, "10010", PermissionDenied),
        (403, "20012", InsufficientFunds),
        (403, "20100", InsufficientFunds),
        (401, "20006", AuthenticationFailed),
        (403, "20016", PermissionDenied),
        (403, "20017", PermissionDenied),
        (403, "20013", PermissionDenied),
        (403, "20014", PermissionDenied),
        (403, "20015", PermissionDenied),
        (404, "10005", NotFound),
        (422, "90015", NotFound),
        (404, "10002", NumberRejected),
        (422, "10016", NumberRejected),
        (422, "10004", RequestRejected),
        (422, "90034", RequestRejected),
        (422, "90014", RequestRejected),
        (422, "90041", RateLimited),
        (422, "90043", RateLimited),
        (422, "85001", NumberUnavailable),
        (422, "10038", PermissionDenied),
        (429, "10011", RateLimited),
        (500, "10007", ProviderUnavailable),
        (422, "no such code", RequestRejected),
        (408, "no such code", ProviderUnavailable),
    ],
)
async def test_each_code_means_its_error(telnyx, carrier, status, code, kind):
    carrier.refuse(DIGITS, status, code, "Title", detail="Detail.")
    with pytest.raises(ProviderError) as caught:
        await telnyx.send_digits("v3:x", "1")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, code)
    assert (caught.value.provider, caught.value.operation) == ("telnyx", "send_digits")
    assert "Title: Detail" in str(caught.value)


async def test_a_permission_refused_for_want_of_money_is_insufficient_funds(telnyx, carrier):
    carrier.refuse(DIGITS, 403, "20015", "Feature not enabled", detail="Your account has insufficient credit.")
    with pytest.raises(InsufficientFunds):
        await telnyx.send_digits("v3:x", "1")


async def test_money_named_under_a_code_nobody_documents_is_insufficient_funds(telnyx, carrier):
    carrier.refuse(DIGITS, 403, "20199", "Refused", detail="Your balance is too low.")
    with pytest.raises(InsufficientFunds, match="Top up"):
        await telnyx.send_digits("v3:x", "1")


@pytest.mark.parametrize(
    ("status", "code", "detail", "advice"),
    [
        (403, "10010", "Unverified origination number D51", "Call from a number this account owns, or"),
        (403, "10010", "Dialed number is not included in whitelisted countries D13", "Allow the destination's country"),
        (403, "10010", "The connection has no outbound voice profile.", "Give the application an outbound voice"),
        (403, "10010", "Something else.", "Enable the permission, destination or feature"),
        (422, "90018", "This call is no longer active.", "The call is over: nothing can be done with it now."),
        (422, "90034", "Not answered.", "The call is not answered yet"),
        (403, "20014", "Unverified.", "Verify the account"),
        (422, "10038", "Not at this level.", "Raise the account's level"),
        (403, "20013", "Blocked.", "The account is blocked: see why"),
    ],
)
async def test_a_refusal_says_what_to_do_about_it(telnyx, carrier, status, code, detail, advice):
    carrier.refuse("POST /calls/v3:x/actions/transfer", status, code, "Title", detail=detail)
    with pytest.raises(ProviderError) as caught:
        await telnyx.transfer("v3:x", "+14155550177")
    assert caught.value.next_step.startswith(advice) and advice in str(caught.value)


@pytest.mark.parametrize("pointer", ["/to", "/from", "/phone_numbers/0/phone_number"])
async def test_a_malformed_field_that_holds_a_number_is_a_rejected_number(telnyx, carrier, pointer):
    carrier.refuse(DIGITS, 422, "10015", "Bad Request", source={"pointer": pointer})
    with pytest.raises(NumberRejected):
        await telnyx.send_digits("v3:x", "1")


@pytest.mark.parametrize(
    ("headers", "wait"),
    [({"x-ratelimit-reset": "7"}, 7.0), ({"retry-after": "3"}, 3.0), ({"x-ratelimit-reset": "soon"}, None), ({}, None)],
)
async def test_a_rate_limit_tells_how_long_to_wait(telnyx, carrier, headers, wait):
    carrier.on(DIGITS, {"errors": [{"code": "10011", "title": "Too many requests"}]}, status=429, headers=headers)
    with pytest.raises(RateLimited) as caught:
        await telnyx.send_digits("v3:x", "1")
    assert caught.value.retry_after == wait


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"errors": {"detail": "Bad Request"}}, None, "Bad Request"),
        ({"errors": [{"code": 10015, "title": "A"}, {"code": "2", "title": "B"}, "odd"]}, "10015", "A; B; odd"),
        ({"errors": "none"}, None, ""),
        ({"errors": [{}]}, None, ""),
        ([], None, "[]"),
        ("text", None, "text"),
    ],
)
def test_every_form_of_error_body_is_read(telnyx, body, code, words):
    assert telnyx.error_detail(body) == (code, words)


@pytest.mark.parametrize(
    ("file", "code"), [("authentication_failed.json", "10009"), ("call_already_ended.json", "90018")]
)
def test_captured_refusals_are_read(telnyx, file, code):
    capture = json.loads(shared_path("recordings", "telnyx", "errors", file).read_text())
    found, words = telnyx.error_detail(capture["body"])
    assert found == code
    assert words


@pytest.mark.parametrize(("status", "body"), [(502, b"<html>Bad Gateway</html>"), (401, b""), (422, b'{"errors": [')])
async def test_a_refusal_that_is_not_json_still_is_a_typed_error(telnyx, carrier, status, body):
    carrier.on(DIGITS, body, status=status)
    with pytest.raises(ProviderError) as caught:
        await telnyx.send_digits("v3:x", "1")
    assert caught.value.status == status


async def test_neither_message_nor_traceback_holds_the_key_or_a_whole_number(telnyx, carrier):
    detail = "The key KEY0123 may not call +14155550123 from 4155550100."
    carrier.refuse("POST /calls/v3:x/actions/transfer", 422, "10027", "Unprocessable", detail=detail)
    with pytest.raises(RequestRejected) as caught:
        await telnyx.transfer("v3:x", "+14155550177")
    told = "".join(traceback.format_exception(caught.value))
    for secret in ("KEY0123", "4155550123", "4155550100"):
        assert secret not in str(caught.value)
        assert secret not in told
