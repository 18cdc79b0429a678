"""The distribution's door, its credential, and what using it costs before it is used."""

from __future__ import annotations

import base64
import subprocess
import sys

import httpx
import pytest
from pydantic import ValidationError

from anycarrier.plugins import get_provider
from anycarrier.provider import Capability
from anycarrier_telnyx import TelnyxCredential, TelnyxProvider

PUBLIC = base64.b64encode(bytes(32)).decode()


def test_the_plugin_is_found_by_name():
    assert get_provider("telnyx") is TelnyxProvider


def test_all_a_carrier_commanded_by_rest_can_do_is_declared():
    assert TelnyxProvider.capabilities == set(Capability) - {Capability.LISTEN, Capability.INSTRUCT}


def test_importing_and_making_a_provider_loads_neither_sdk_nor_http_nor_crypto():
    program = (
        "import sys, anycarrier_telnyx as t; t.TelnyxProvider(t.TelnyxCredential(api_key='k')).serializer();"
        "print([m for m in ('telnyx', 'httpx', 'nacl', 'starlette') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_credential_is_made_from_a_key_and_details():
    credential = TelnyxCredential.from_api_key("KEY0123", {"public_key": PUBLIC, "connection_id": "28112"})
    assert credential.provider == "telnyx"
    assert credential.api_key.get_secret_value() == "KEY0123"
    assert (credential.public_key, credential.connection_id, credential.base_url) == (PUBLIC, "28112", None)
    assert credential.secrets() == ("KEY0123",)


@pytest.mark.parametrize("metadata", [{"provider": "other"}, {"publik_key": PUBLIC}, {"connection_id": 28112}])
def test_details_that_are_not_telnyx_s_are_refused_without_showing_the_key(metadata):
    with pytest.raises(ValidationError) as caught:
        TelnyxCredential.from_api_key("KEY0123", metadata)
    assert "KEY0123" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"base_url": "Bearer http://voice.example.com"}, "telnyx base_url is a URL"),
        ({"api_key": PUBLIC}, "telnyx api_key begins with KEY; this looks like the account's public key"),
        ({"api_key": "Bearer KEY0123"}, "give the key alone"),
        ({"api_key": "KEY0123", "public_key": "KEY0123"}, "telnyx public_key is 32 bytes.*looks like an API key"),
        ({"api_key": "KEY0123", "public_key": PUBLIC[:-5]}, "telnyx public_key is 32 bytes"),
        ({"api_key": "KEY0123", "connection_id": "my application"}, "telnyx connection_id.*digits only"),
    ],
)
def test_what_was_pasted_into_the_wrong_field_is_said(fields, told):
    with pytest.raises(ValidationError, match=told) as caught:
        TelnyxCredential(**fields)
    assert PUBLIC not in str(caught.value) and "KEY0123" not in str(caught.value)


def test_the_key_is_not_shown():
    credential = TelnyxCredential(api_key="KEY0123", public_key=PUBLIC)
    assert "KEY0123" not in repr(credential)
    assert "KEY0123" not in credential.model_dump_json()
    assert "KEY0123" not in repr(TelnyxProvider(credential))


async def test_the_shared_client_is_used_and_left_open():
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"data": {}}))
    async with httpx.AsyncClient(transport=transport) as http:
        telnyx = TelnyxProvider(TelnyxCredential(api_key="KEY0123"), http)
        await telnyx.hang_up("v3:x")
        await telnyx.aclose()
        assert not http.is_closed
