"""The credential: what is taken, what is refused when it is entered, and what the mix-ups are called."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from anycarrier_signalwire import SignalWireCredential, SignalWireProvider

PROJECT = "0f1e2d3c-4b5a-4697-8877-665544332211"
GOOD = {"space": "example.signalwire.com", "project_id": PROJECT, "api_token": "PT01", "signing_key": "PSK01"}


def made(**changes: str) -> SignalWireCredential:
    return SignalWireCredential.model_validate({**GOOD, **changes})


@pytest.mark.parametrize("space", ["example", "Example.SignalWire.com", "https://example.signalwire.com/"])
def test_a_space_is_its_host_however_it_is_written(space: str) -> None:
    credential = made(space=space)
    assert credential.space == "example.signalwire.com"
    assert SignalWireProvider(credential).base_url == "https://example.signalwire.com"


@pytest.mark.parametrize(
    "space",
    ["localhost.", "10.0.0.1", "evil.example", "a.b.signalwire.com", "x@evil.example", "-x", "signalwire.com.evil"],
)
def test_no_other_host_is_sent_the_token(space: str) -> None:
    with pytest.raises(ValidationError, match="signalwire space"):
        made(space=space)


def test_two_providers_have_a_host_each() -> None:
    one, other = (SignalWireProvider(made(space=space)) for space in ("one", "other"))
    assert (one.base_url, other.base_url) == ("https://one.signalwire.com", "https://other.signalwire.com")


@pytest.mark.parametrize(
    ("field", "value", "taken_for"),
    [
        ("project_id", "AC" + "0" * 32, "is a UUID"),
        ("api_token", PROJECT, "looks like the Project ID"),
        ("api_token", "PSK" + "a" * 40, "looks like a signing key"),
        ("signing_key", PROJECT, "looks like the Project ID"),
        ("signing_key", "PT" + "a" * 48, "looks like an API token"),
        ("secondary_signing_key", "PT" + "a" * 48, "looks like an API token"),
        ("base_url", "example.org", "is a URL"),
    ],
)
def test_a_value_of_another_kind_is_refused_and_not_shown(field: str, value: str, taken_for: str) -> None:
    with pytest.raises(ValidationError, match=f"signalwire {field} {taken_for}") as refused:
        made(**{field: value})
    assert value not in str(refused.value)


def test_it_is_made_of_an_api_token_and_the_rest() -> None:
    rest = {name: value for name, value in GOOD.items() if name != "api_token"}
    credential = SignalWireCredential.from_api_key("PT01", rest)
    assert credential == made() and credential.account == PROJECT
    with pytest.raises(ValidationError, match="signing_key"):
        SignalWireCredential.from_api_key("PT01", {"space": "example", "project_id": PROJECT})


def test_the_key_is_the_api_token_and_the_signing_key_a_detail() -> None:
    assert SignalWireCredential.key_field() == "api_token"
