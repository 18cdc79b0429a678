"""What is refused when a credential is entered."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from anycarrier_bandwidth import BandwidthCredential


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("account_id", "AC99"),
        ("account_id", "../9"),
        ("client_id", "user:password"),
        ("application_id", "my app"),
        ("application_id", "x/../y"),
        ("callback_user", "any:carrier"),
        ("callback_password", "short"),
        ("site_id", "ours-7"),
        ("peer_id", "9/1"),
        ("vcp_id", "a b"),
        ("base_url", "voice.bandwidth.com"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(kit: Any, field: str, wrong: str) -> None:
    with pytest.raises(ValidationError) as refused:
        kit.credential(**{field: wrong})
    assert field in str(refused.value) and "bandwidth" in str(refused.value) and wrong not in str(refused.value)


def test_without_a_callback_password_there_is_no_credential(kit: Any) -> None:
    with pytest.raises(ValidationError, match="callback_password"):
        kit.credential(callback_password="")


def test_a_key_may_be_the_secret_alone_or_both_in_one() -> None:
    rest = {"account_id": "9900000", "application_id": "a-1", "callback_password": "0123456789abcdef"}
    both = BandwidthCredential.from_api_key("id:secret:with-colon", rest)
    alone = BandwidthCredential.from_api_key("secret", {**rest, "client_id": "id"})
    assert (both.client_id, both.client_secret.get_secret_value()) == ("id", "secret:with-colon")
    assert (alone.client_id, alone.client_secret.get_secret_value(), alone.account) == ("id", "secret", "9900000")
