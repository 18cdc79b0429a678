"""Credentials of any carrier: which field people mean by the key."""

from __future__ import annotations

from pydantic import SecretStr

from anycarrier import Credential


class Brook(Credential):
    provider: str = "brook"
    place: str = ""
    public: SecretStr | None = None
    token: SecretStr
    signing: SecretStr


class Rill(Credential):
    provider: str = "rill"
    password: SecretStr | None = None


def test_the_key_is_the_first_secret_that_cannot_be_done_without() -> None:
    assert (Brook.key_field(), Rill.key_field(), Credential.key_field()) == ("token", "password", "api_key")


def test_a_key_and_details_make_a_credential_whatever_its_key_is_called() -> None:
    made = Brook.from_api_key("t", {"signing": "s", "place": "a"})
    assert (made.token.get_secret_value(), made.signing.get_secret_value(), made.place) == ("t", "s", "a")
    assert Rill.from_api_key("p").password == SecretStr("p")
