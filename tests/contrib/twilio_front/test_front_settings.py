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


@both
@pytest.mark.parametrize("hosts", ["localhost", None, 5, "ann:made-up@bot.example.com"])
def test_hosts_that_are_no_list_are_refused(make: Make, hosts: object) -> None:
    with pytest.raises(ConfigurationError, match=r"hosts is a list: write hosts=\['bot.example.com'\], not ") as told:
        make(hosts=hosts)
    assert "made-up" not in str(told.value)


@both
@pytest.mark.parametrize("host", [None, 5, "bot.example.com:port", "[::1", "ann:made-up@bot.example.com", "", b"bot"])
def test_a_host_that_is_none_is_refused_without_its_password(make: Make, host: object) -> None:
    with pytest.raises(ConfigurationError, match=r"hosts are like bot\.example\.com") as told:
        make(hosts=[host])
    assert "made-up" not in str(told.value)


@both
def test_hosts_may_be_any_collection(make: Make) -> None:
    for hosts in ({"media.example.com"}, ("media.example.com",), iter(["media.example.com"]), {"media.example.com": 1}):
        make(hosts=hosts).hosts.check("https://media.example.com/")


@both
@pytest.mark.parametrize(
    "url", [None, "", 5, "bot.example.com", "/voice", "https://bot.example:99999/", "https://[::1", VOICE_URL.encode()]
)
def test_a_voice_url_that_cannot_be_asked_is_refused(make: Make, url: object) -> None:
    with pytest.raises(ConfigurationError, match=r"voice_url must be like https://bot\.example\.com/voice, not "):
        make(voice_url=url)


@pytest.mark.parametrize(
    ("make", "setting"),
    [(twilio_front, "fallback_url"), (twilio_front, "status_callback"), (relay_front, "fallback_url")],
)
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("fb", "must be like https://bot.example.com/voice, not 'fb'"),
        ("/status", "must be like https://bot.example.com/voice, not '/status'"),
        (5, "must be like https://bot.example.com/voice, not an object of type int"),
        ("https://ann:made/up@bot.example.com/", "must be like .*, not what was given, which may hold a password"),
        ("https://other.example.com/x", ": other.example.com:443 is not one of the front's hosts: name it in "),
        ("http://bot.example.com/x", ": the URL scheme 'http' is not allowed: http://bot.example.com/x"),
    ],
)
def test_another_url_that_cannot_be_asked_is_refused(make: Make, setting: str, url: object, told: str) -> None:
    with pytest.raises(ConfigurationError, match=setting + " ?" + told):
        make(**{setting: url})
    assert make(**{setting: "https://media.example.com/x", "hosts": ["media.example.com"]})


@both
@pytest.mark.parametrize("method", [None, "post", "PUT"])
def test_a_method_that_no_document_is_asked_by_is_refused(make: Make, method: object) -> None:
    with pytest.raises(ConfigurationError, match='voice_method must be "POST" or "GET"'):
        make(voice_method=method)


def test_a_front_of_no_exchange_is_refused_and_one_that_is_refused_leaves_the_exchange_alone() -> None:
    with pytest.raises(ConfigurationError, match=r"exchange must be the Exchange .*TwilioFront\(exchange, \.\.\.\)"):
        twilio_front(exchange=None)
    house = exchange()
    router = house.switchboard.router
    with pytest.raises(ConfigurationError):
        twilio_front(exchange=house, status_callback="status")
    assert house.switchboard.router is router and not house.switchboard.observers
