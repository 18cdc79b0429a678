"""Twilio's refusals as typed errors that name the operation, the code and the next step, and keep secrets."""

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
    RequirementsMissing,
    UnreadableResponse,
)
from shared_documents import shared_path

TABLE = [
    (401, 20003, AuthenticationFailed),
    (403, 20003, PermissionDenied),
    (403, 20005, InsufficientFunds),
    (401, 10001, InsufficientFunds),
    (404, 20404, NotFound),
    (429, 20429, RateLimited),
    (400, 21211, NumberRejected),
    (400, 21217, NumberRejected),
    (400, 21401, NumberRejected),
    (400, 21421, NumberRejected),
    (400, 21212, NumberRejected),
    (400, 21210, PermissionDenied),
    (400, 21213, NumberRejected),
    (400, 21215, PermissionDenied),
    (400, 21216, PermissionDenied),
    (400, 21219, PermissionDenied),
    (400, 21422, NumberUnavailable),
    (400, 21452, NumberUnavailable),
    (400, 21631, RequirementsMissing),
    (400, 21649, RequirementsMissing),
    (400, 21651, RequirementsMissing),
    (400, 21205, RequestRejected),
    (400, 99999, RequestRejected),
    (402, 99999, InsufficientFunds),
    (500, 20500, ProviderUnavailable),
    (503, 20503, ProviderUnavailable),
]


@pytest.mark.parametrize(("status", "code", "kind"), TABLE)
async def test_each_code_is_its_own_error_with_a_next_step(provider, carrier, kit, status, code, kind):
    carrier.answers(status, kit.error_body(status, code, f"Refused for {kit.THEIRS} and token {kit.TOKEN}"))
    with pytest.raises(ProviderError) as caught:
        await provider.fetch_call(kit.CALL)
    error = caught.value
    assert type(error) is kind
    assert (error.provider, error.operation, error.status, error.code) == ("twilio", "fetch_call", status, str(code))
    assert error.next_step and error.next_step in str(error) and str(code) in str(error)


async def test_no_error_text_or_cause_holds_a_number_or_a_secret(provider, carrier, kit):
    carrier.answers(400, kit.error_body(400, 21211, f"Account not authorized to call {kit.THEIRS}: {kit.TOKEN}"))
    with pytest.raises(NumberRejected) as caught:
        await provider.fetch_call(kit.CALL)
    told = "".join(traceback.format_exception(caught.value))
    assert kit.THEIRS not in told and "authorized to call +1415…23: [secret]" in told


@pytest.mark.parametrize(
    ("header", "seconds"), [({"Retry-After": "7"}, 7.0), ({}, None), ({"Retry-After": "soon"}, None)]
)
async def test_a_throttled_request_tells_how_long_to_wait_where_twilio_does(provider, carrier, kit, header, seconds):
    carrier.answers(429, kit.error_body(429, 20429, "Too many requests"), headers=header)
    with pytest.raises(RateLimited) as caught:
        await provider.fetch_call(kit.CALL)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (502, b"<html><body>Bad Gateway</body></html>", ProviderUnavailable),
        (503, b"", ProviderUnavailable),
        (401, b"<TwilioResponse><RestException/></TwilioResponse>", AuthenticationFailed),
        (404, b"not here", NotFound),
        (200, b"<html>hotel wifi</html>", UnreadableResponse),
        (200, b'{"sid": ', UnreadableResponse),
        (200, b"null", UnreadableResponse),
        (200, b"[]", UnreadableResponse),
        (307, b"", UnreadableResponse),
    ],
)
async def test_an_answer_that_is_not_json_is_still_a_typed_error(provider, carrier, kit, status, content, kind):
    carrier.spec = None
    carrier.answers(status, content=content)
    with pytest.raises(ProviderError) as caught:
        await provider.fetch_call(kit.CALL)
    assert type(caught.value) is kind and "fetch_call" in str(caught.value)


async def test_an_error_in_xml_is_read(provider, carrier, kit):
    carrier.spec = None
    problem = "<Code>20003</Code><Message>Authenticate &amp; try again</Message><Status>401</Status>"
    document = f"<?xml version='1.0' encoding='UTF-8'?>\n<TwilioResponse><RestException>{problem}"
    carrier.answers(401, content=f"{document}</RestException></TwilioResponse>".encode())
    with pytest.raises(AuthenticationFailed, match="Authenticate & try again") as caught:
        await provider.fetch_call(kit.CALL)
    assert caught.value.code == "20003" and "<" not in str(caught.value)


async def test_an_error_without_a_code_goes_by_its_status(provider, carrier, kit):
    carrier.answers(404, {"message": "gone"})
    with pytest.raises(NotFound) as caught:
        await provider.fetch_call(kit.CALL)
    assert caught.value.code is None


async def test_the_newer_problem_details_are_understood(provider, carrier, kit):
    body = {"type": "https://twilio.com/e/20003", "title": "Denied", "status": 401, "code": 20003, "detail": "no login"}
    carrier.answers(401, body)
    with pytest.raises(AuthenticationFailed, match="Denied: no login"):
        await provider.fetch_call(kit.CALL)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("authentication_20003", AuthenticationFailed),
        ("call_not_in_progress_21220", RequestRejected),
        ("geo_permission_21215", PermissionDenied),
        ("invalid_number_21421", NumberRejected),
    ],
)
async def test_errors_twilio_really_sent(provider, carrier, kit, file, kind):
    recorded = json.loads(shared_path("recordings", "twilio", "errors", f"{file}.json").read_text())
    carrier.answers(recorded["status"], recorded["body"])
    with pytest.raises(ProviderError) as caught:
        await provider.fetch_call(kit.CALL)
    assert type(caught.value) is kind and caught.value.code == file.rpartition("_")[2]


@pytest.mark.parametrize(("code", "lacks"), [("21631", "address"), ("21649", "documents"), ("21651", "documents")])
def test_a_regulated_number_names_what_it_lacks(provider, code, lacks):
    refused = provider.error("buy_number", 400, code=code)
    assert isinstance(refused, RequirementsMissing) and refused.requirements == (lacks,)
