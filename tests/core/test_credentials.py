"""Credentials of any carrier: which field people mean by the key."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

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


class Shaped(Credential):
    shapes = {"account_id": ("[0-9]+", "digits only"), "secret": (".{8,}", "a text of 8 characters or more"),
              "site": ("[a-z]+", "a word")}  # fmt: skip
    provider: str = "acme"
    account_id: str
    secret: SecretStr
    site: str | None = None
    free: str = "any thing"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"account_id": "12x"}, "acme account_id is digits only"),
        ({"secret": "hunter2"}, "acme secret is a text of 8 characters or more"),
        ({"site": "a-1"}, "acme site is a word"),
    ],
)
def test_a_field_of_another_shape_is_refused_by_name_and_words(wrong: dict[str, str], told: str) -> None:
    right = {"account_id": "12", "secret": "hunter22"}
    assert Shaped.model_validate(right).site is None
    assert Shaped.model_validate({**right, "site": "ours", "free": "a-1"}).site == "ours"
    with pytest.raises(ValidationError) as refused:
        Shaped.model_validate({**right, **wrong})
    assert told in str(refused.value) and not any(value in str(refused.value) for value in wrong.values())
