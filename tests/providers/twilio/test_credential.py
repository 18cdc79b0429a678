"""The credential: the ways it is given, what it hides, and the plugin's door."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest
from pydantic import ValidationError

from anycarrier.errors import AnycarrierError, ConfigurationError
from anycarrier_twilio import TwilioCredential, TwilioProvider, anycarrier_providers

SID = "AC" + "0" * 32
KEY = "SK" + "1" * 32


@pytest.mark.parametrize(
    ("key", "metadata"), [("hush", {"account_sid": SID}), (f"{SID}:hush", None), (f"{SID}:hush", {"account_sid": SID})]
)
def test_one_key_and_details_make_a_credential(key, metadata):
    credential = TwilioCredential.from_api_key(key, metadata)
    assert (credential.account, credential.login, credential.provider) == (SID, (SID, "hush"), "twilio")


def test_an_api_key_logs_in_where_there_is_one():
    details = {"account_sid": SID, "api_key_sid": "SK1", "api_key_secret": "deep", "region": "ie1", "edge": "dublin"}
    credential = TwilioCredential.from_api_key("hush", details)
    assert credential.login == ("SK1", "deep") and set(credential.secrets()) == {"hush", "deep"}


@pytest.mark.parametrize("metadata", [None, {}, {"account_sid": ""}])
def test_a_missing_account_sid_is_said_plainly(metadata):
    with pytest.raises(ConfigurationError, match="Account SID"):
        TwilioCredential.from_api_key("hush", metadata)


def test_an_account_sid_of_another_kind_is_refused_without_showing_secrets():
    with pytest.raises(ValidationError) as caught:
        TwilioCredential(account_sid="SK1", auth_token="hush")
    assert "account_sid" in str(caught.value) and "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"api_key_sid": KEY}, "twilio api_key_secret is missing"),
        ({"api_key_secret": "deep"}, "twilio api_key_sid is missing"),
        ({"api_key_sid": KEY, "api_key_secret": " \n"}, "twilio api_key_secret is missing"),
        ({"account_sid": KEY}, "twilio account_sid is an Account SID.*this is the SID of an API key"),
        ({"api_key_sid": SID, "api_key_secret": "deep"}, "twilio api_key_sid is the SID of an API key.*an Account SID"),
        ({"base_url": "voice.example.com"}, "twilio base_url is a URL"),
        ({"base_url": "http: //voice.example.com"}, "twilio base_url is a URL"),
        ({"auth_token": SID}, "twilio auth_token begins with an Account SID, which is no secret"),
        ({"auth_token": f"{SID}:hush"}, "twilio auth_token begins with an Account SID"),
        ({"api_key_sid": KEY, "api_key_secret": KEY}, "twilio api_key_secret begins with the SID of an API key"),
    ],
)
def test_half_a_key_and_fields_mixed_up_are_refused_when_entered(fields, told):
    with pytest.raises(ValidationError, match=told) as caught:
        TwilioCredential(**{"account_sid": SID, "auth_token": "hush", **fields})
    assert not {"hush", "deep", KEY} & set(str(caught.value).split())


@pytest.mark.parametrize(
    ("key", "metadata", "told"),
    [
        (f"{KEY}:deep", {"account_sid": SID}, "an API key is not enough"),
        (f"{SID}:hush", {"account_sid": "AC" + "1" * 32}, "another account"),
    ],
)
def test_a_pair_that_cannot_be_meant_is_refused(key, metadata, told):
    with pytest.raises(ConfigurationError, match=told):
        TwilioCredential.from_api_key(key, metadata)


def test_a_pair_pasted_with_a_line_end_is_taken_apart():
    credential = TwilioCredential.from_api_key(f'\ufeff"{SID}:hush"\r\n')
    assert credential.login == (SID, "hush")


def test_secrets_do_not_show():
    credential = TwilioCredential(account_sid=SID, auth_token="hush-1", api_key_sid="SK1", api_key_secret="hush-2")
    for text in (repr(credential), str(credential), credential.model_dump_json(), repr(TwilioProvider(credential))):
        assert "hush" not in text


def test_the_plugin_brings_one_provider():
    assert anycarrier_providers() == [TwilioProvider]
    assert (TwilioProvider.name, TwilioProvider.title) == ("twilio", "Twilio")


def test_importing_the_plugin_loads_neither_the_sdk_nor_http():
    code = (
        "import sys, anycarrier_twilio as p; p.anycarrier_providers()[0]; "
        "print([m for m in sys.modules if m.split('.')[0] in ('twilio', 'httpx', 'requests', 'aiohttp', 'starlette')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


async def test_making_a_provider_and_reading_webhooks_asks_nobody(carrier, credential, kit):
    async with httpx.AsyncClient(transport=httpx.MockTransport(carrier.handle)) as http:
        provider = TwilioProvider(credential, http)
        provider.parse_webhook(kit.webhook({"CallSid": "CA1"}))
        provider.serializer()
        with pytest.raises(AnycarrierError):
            provider.verify(kit.webhook({"CallSid": "CA1"}))
    assert carrier.requests == []
