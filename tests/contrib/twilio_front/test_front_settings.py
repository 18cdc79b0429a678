"""What a front is made with: what cannot work is refused then, not in a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anycarrier import Exchange, MemoryNumberRegistry
from anycarrier.errors import ConfigurationError
from anycarrier_twilio_front import RelayFront, TwilioFront
from contrib.twilio_front.fronted import ACCOUNT, TOKEN

VOICE_URL = "https://bot.example.com/voice"
Make = Callable[..., TwilioFront | RelayFront]


def exchange() -> Exchange:
    return Exchange(registry=MemoryNumberRegistry(), credentials={}, public_url="https://voice.example.com",
                    secret="a secret of the whole suite, long enough")  # fmt: skip


def twilio_front(**options: Any) -> TwilioFront:
    return TwilioFront(**{"exchange": exchange(), **GOOD, **options})


def relay_front(**options: Any) -> RelayFront:
    return RelayFront(**{**GOOD, **options})


GOOD: dict[str, Any] = {"account_sid": ACCOUNT, "auth_token": TOKEN, "voice_url": VOICE_URL}
both = pytest.mark.parametrize("make", [twilio_front, relay_front])


@both
@pytest.mark.parametrize("token", ["", "  ", None, b"made-up", 5])
def test_a_token_that_anybody_could_log_in_with_is_refused(make: Make, token: object) -> None:
    with pytest.raises(ConfigurationError, match=r"auth_token .*: give the secret that the bot has.*environ") as told:
        make(auth_token=token)
    assert "made-up" not in str(told.value)


@both
@pytest.mark.parametrize(
    "sid", ["", None, "AC1", "AC" + 33 * "0", "AC" + 32 * "g", "SK" + 32 * "0", ACCOUNT + "\n", ACCOUNT.encode()]
)
def test_an_account_that_is_none_of_twilios_kind_is_refused_and_not_quoted(make: Make, sid: object) -> None:
    with pytest.raises(ConfigurationError, match=r"account_sid must be AC and 32 hex digits.*secrets") as told:
        make(account_sid=sid)
    assert not sid or str(sid) not in str(told.value)


@both
def test_an_account_may_have_capitals(make: Make) -> None:
    assert make(account_sid="AC" + 16 * "aF").account_sid == "AC" + 16 * "aF"


@pytest.mark.parametrize("keys", [{"SK1": ""}, {"SK1": None}, {"": "made-up"}, {None: "made-up"}, {"SK1": b"made-up"}])
def test_an_api_key_without_a_sid_or_a_secret_is_refused(keys: dict[Any, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"in api_keys .*: give the secret that the bot has") as told:
        twilio_front(api_keys=keys)
    assert "made-up" not in str(told.value)
