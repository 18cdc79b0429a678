"""What may be entered as a credential of Vonage's, and what is refused when it is entered."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from anycarrier_vonage import VonageCredential
from anycarrier_vonage.credential import load_key
from anycarrier_vonage.sandbox.accounts import pem_of, private_key
from providers.vonage.conftest import APPLICATION, credential

PKCS8 = pem_of(private_key())
PLAIN, NONE = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
PKCS1 = private_key().private_bytes(serialization.Encoding.PEM, PLAIN, NONE).decode()
LOCKED = private_key().private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
).decode()  # fmt: skip
CURVE = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, NONE
).decode()  # fmt: skip


@pytest.mark.parametrize(
    "pasted",
    [
        PKCS8,
        PKCS1,
        PKCS8.replace("\n", "\r\n"),
        PKCS8.replace("\n", "\\n"),
        PKCS8.replace("\n", " "),
        f'"{PKCS8}"',
        f"  \n{PKCS8}\n\n",
    ],
    ids=["pkcs8", "pkcs1", "crlf", "escaped", "one line", "quoted", "padded"],
)
def test_a_key_is_taken_however_it_was_pasted(pasted: str) -> None:
    held = credential(private_key=pasted)
    assert load_key(held.private_key).private_numbers() == private_key().private_numbers()


def test_a_kept_key_can_be_entered_again() -> None:
    held = credential()
    again = VonageCredential.model_validate({**held.model_dump(), "private_key": held.private_key.get_secret_value()})
    assert again == held


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"private_key": PKCS8[:-200]}, "private_key"),
        ({"private_key": PKCS8.replace("M", "", 1)}, "private_key"),
        ({"private_key": LOCKED}, "passphrase"),
        ({"private_key": CURVE}, "private_key"),
        ({"private_key": "private.key"}, "private_key"),
        ({"application_id": "my application"}, "application_id"),
        ({"application_id": "a1b2c3d4"}, "application_id"),
        ({"api_secret": PKCS8.replace("\n", "")}, "api_secret"),
        ({"signature_secret": APPLICATION}, "signature_secret"),
        ({"api_key": APPLICATION}, "api_key"),
        ({"api_secret": "caf\u00e9"}, "api_secret"),
        ({"region": "the moon"}, "region"),
        ({"region": "https://api-us-1.vonage.com.example.net"}, "region"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_not_shown(fields: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError) as refused:
        credential(**fields)
    told = str(refused.value)
    assert named in told and "vonage" in told
    (value,) = fields.values()
    assert value[40:80] not in told if len(value) > 80 else True


@pytest.mark.parametrize("entered", ["us-1", "api-us-1.vonage.com", "https://api-us-1.vonage.com/"])
def test_a_region_is_a_name_or_a_host(entered: str) -> None:
    assert credential(region=entered).region == "https://api-us-1.vonage.com"


def test_an_application_id_is_written_in_lower_case() -> None:
    held = credential(application_id=APPLICATION.upper())
    assert (held.application_id, held.account) == (APPLICATION, APPLICATION)


def test_nothing_shows_a_secret() -> None:
    held = credential()
    shown = f"{held!r} {held} {json.dumps(held.model_dump(mode='json'))}"
    assert all(secret not in shown for secret in held.secrets()) and len(held.secrets()) == 4
