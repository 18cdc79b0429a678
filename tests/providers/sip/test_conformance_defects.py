"""The kit's live calls notice what is wrong: each defect planted in the provider fails the check that is for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anycarrier.calls import Call, DialRequest
from anycarrier.errors import AuthenticationFailed, NotFound
from anycarrier.provider import Capability
from anycarrier.testing.conformance import ProviderConformance
from anycarrier_sip import SipCredential, SipProvider

hang_up, dial, fetch_call = SipProvider.hang_up, SipProvider.dial, SipProvider.fetch_call


class Checked(ProviderConformance):
    __test__ = False
    provider = SipProvider
    credential = SipCredential(preset="pbx", host="127.0.0.1", username="201", password="kit-password")
    cassettes = Path(__file__).parent / "frames"


async def hangs_up_only_what_is_up(self: SipProvider, call_id: str) -> None:
    if (await fetch_call(self, call_id)).ended:
        raise NotFound("sip", "hang_up", "it is over")
    await hang_up(self, call_id)


async def drops_headers(self: SipProvider, request: DialRequest) -> Call:
    return await dial(self, request.model_copy(update={"headers": {}}))


async def tells_the_password(self: SipProvider, request: DialRequest) -> Call:
    try:
        return await dial(self, request)
    except AuthenticationFailed as refused:
        password = self.credential.password
        assert password is not None
        raise AuthenticationFailed("sip", "dial", f"wrong: {password.get_secret_value()}") from refused


async def knows_no_ended_call(self: SipProvider, call_id: str) -> Call:
    call = await fetch_call(self, call_id)
    if call.ended:
        raise NotFound("sip", "fetch_call", "it is over")
    return call


async def lists_texts(self: SipProvider, number: str | None = None) -> list[str]:
    return ["+14155550100"]


async def names_no_account(self: SipProvider) -> str:
    return ""


@pytest.mark.parametrize(
    ("method", "defect", "check"),
    [
        ("hang_up", hangs_up_only_what_is_up, Checked.test_a_call_of_ours_is_answered_and_hung_up_once),
        ("dial", drops_headers, Checked.test_a_call_of_ours_is_answered_and_hung_up_once),
        ("dial", tells_the_password, Checked.test_a_wrong_secret_is_refused_and_shown_nowhere),
        ("fetch_call", knows_no_ended_call, Capability.FETCH_CALL),
        ("list_numbers", lists_texts, Capability.LIST_NUMBERS),
        ("check_credential", names_no_account, Capability.CHECK_CREDENTIAL),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_defect_is_noticed(
    method: str,
    defect: object,
    check: Callable[..., None] | Capability,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kit: Any = Checked()
    log = (caplog,) if check is Checked.test_a_wrong_secret_is_refused_and_shown_nowhere else ()

    def checked() -> None:
        if isinstance(check, Capability):
            kit.test_a_declared_capability_does_it_on_a_live_call(check)
        else:
            check(kit, *log)

    checked()
    monkeypatch.setattr(SipProvider, method, defect)
    with pytest.raises((AssertionError, NotFound)):
        checked()
