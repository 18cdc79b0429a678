"""Error codes: both shapes of a body, and our error for each code of the carrier's."""

from __future__ import annotations

from typing import Any

import pytest

from anycarrier import errors
from anycarrier.errors import ProviderError
from anycarrier_signalwire import SignalWireProvider

CODES = {
    "20003": errors.AuthenticationFailed,
    "10001": errors.PermissionDenied,
    "20010": errors.PermissionDenied,
    "21210": errors.PermissionDenied,
    "21219": errors.PermissionDenied,
    "4001": errors.InsufficientFunds,
    "20404": errors.NotFound,
    "20429": errors.RateLimited,
    "21611": errors.RateLimited,
    "21211": errors.NumberRejected,
    "21212": errors.NumberRejected,
    "21213": errors.NumberRejected,
    "21217": errors.NumberRejected,
    "21401": errors.NumberRejected,
    "21220": errors.RequestRejected,
    "21205": errors.RequestRejected,
    "21402": errors.RequestRejected,
    "10000": errors.RequestRejected,
    "22121": errors.RequestRejected,
    "30010": errors.RequestRejected,
    "20001": errors.ProviderUnavailable,
    "20504": errors.ProviderUnavailable,
}


@pytest.mark.parametrize(("code", "kind"), CODES.items())
async def test_a_code_is_its_error_in_either_shape_whatever_the_status(
    kit: Any, carrier: Any, provider: SignalWireProvider, code: str, kind: type[ProviderError]
) -> None:
    for status, body in ((400, kit.listed(code, "words")), (422, kit.flat(422, int(code), "words"))):
        carrier.answers(status, body)
        with pytest.raises(ProviderError) as refused:
            await provider.fetch_call(kit.CALL)
        error = refused.value
        assert type(error) is kind and (error.code, error.status, error.message) == (code, status, "words")
        assert error.next_step


async def test_a_body_without_a_code_is_judged_by_its_status(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    carrier.answers(404)
    with pytest.raises(errors.NotFound, match="project_id is the project of api_token"):
        await provider.fetch_call(kit.CALL)
    carrier.answers(422, {"errors": ["Number type can't be blank", "odd"]})
    with pytest.raises(errors.RequestRejected, match="can't be blank; odd"):
        await provider.fetch_call(kit.CALL)
    carrier.answers(429, kit.flat(429, 20429), **{"retry-after": "3"})
    with pytest.raises(errors.RateLimited) as throttled:
        await provider.fetch_call(kit.CALL)
    assert throttled.value.retry_after == 3
