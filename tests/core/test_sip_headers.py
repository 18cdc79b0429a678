"""Headers that travel with a call."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from anycarrier import DialRequest, StreamTarget
from anycarrier.sip import LONGEST_HEADER, MOST_HEADERS, headers_of, may_travel


def request(headers: dict[str, str]) -> DialRequest:
    url = StreamTarget(url="wss://voice.example.com/media/x")
    return DialRequest(from_="+14155550100", to="+14155550101", stream=url, status_url="", headers=headers)


@pytest.mark.parametrize(
    ("name", "value", "may"),
    [
        ("X-Order", "7", True), ("x-order_2", "", True), ("User-to-User", "48656c6c6f;encoding=hex", True),
        ("P-Asserted-Identity", "<sip:+14155550100@x>", False), ("From", "me", False), ("X-", "7", False),
        ("X-Two\r\nVia", "x", False), ("X-Order", "7\r\nVia: x", False), ("X-Order", "\N{EURO SIGN}", False),
        ("X-Order", "x" * LONGEST_HEADER, True), ("X-Order", "x" * (LONGEST_HEADER + 1), False), ("X-Order", 7, False),
        ("X-\N{KELVIN SIGN}ey", "7", False), ("U\N{LATIN SMALL LETTER LONG S}er-to-User", "7", False),
    ],
)  # fmt: skip
def test_custom_headers_and_user_to_user_travel_and_nothing_else(name: str, value: Any, may: bool) -> None:
    assert may_travel(name, value) is may
    assert headers_of({name: value}) == ({name: value} if may else {})
    if may:
        assert request({name: value}).headers == {name: value}
    elif isinstance(value, str):
        with pytest.raises(ValidationError):
            request({name: value})


def test_no_more_than_a_few_travel_and_none_twice() -> None:
    many = {f"X-{n}": "" for n in range(MOST_HEADERS + 1)}
    assert len(headers_of(many)) == MOST_HEADERS
    with pytest.raises(ValidationError, match="at most"):
        request(many)
    with pytest.raises(ValidationError, match="same name"):
        request({"X-Order": "7", "x-order": "8"})


def test_a_refused_header_is_named_without_its_value() -> None:
    with pytest.raises(ValidationError) as refused:
        request({"Authorization": "s3cret"})
    assert "'Authorization' may not be sent" in str(refused.value.errors()[0]["msg"])
    assert "s3cret" not in str(refused.value.errors()[0]["msg"])
