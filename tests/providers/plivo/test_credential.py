"""A credential that cannot be Plivo's is refused when it is entered, and never shown."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from anycarrier_plivo import PlivoCredential
from providers.plivo.conftest import AUTH_ID, TOKEN


def test_pasted_residue_is_stripped():
    credential = PlivoCredential(auth_id=f' "{AUTH_ID}"\n', auth_token=f"{TOKEN}\r\n")
    assert (credential.account, credential.secrets()) == (AUTH_ID, (TOKEN,))


def test_a_sub_account_is_one_too():
    assert PlivoCredential(auth_id="SA" + AUTH_ID[2:], auth_token=TOKEN).auth_id.startswith("SA")


@pytest.mark.parametrize(
    ("auth_id", "token", "field"),
    [
        ("AC" + "0" * 32, TOKEN, "auth_id"),
        (AUTH_ID[:-1], TOKEN, "auth_id"),
        (AUTH_ID.lower(), TOKEN, "auth_id"),
        (TOKEN, AUTH_ID, "auth_id"),
        (AUTH_ID, AUTH_ID, "auth_token"),
        (AUTH_ID, "abc", "auth_token"),
        (AUTH_ID, TOKEN[:20] + " " + TOKEN[20:], "auth_token"),
        (AUTH_ID, TOKEN[:-1] + "ü", "auth_token"),
        (AUTH_ID, "", "auth_token"),
    ],
)
def test_what_no_console_shows_is_refused(auth_id: str, token: str, field: str):
    with pytest.raises(ValidationError, match=f"plivo {field}") as refused:
        PlivoCredential(auth_id=auth_id, auth_token=token)
    assert TOKEN not in str(refused.value) and TOKEN[:20] not in str(refused.value)
