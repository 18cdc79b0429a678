"""HTTP without a framework: what is read, and what is said to be unreadable."""

import pytest

from anycarrier import WebhookRequest
from anycarrier.errors import MalformedMessage
from anycarrier.webhooks import with_query

URL = "https://voice.example.com/p/main?ref=r1&empty="


def test_blank_values_and_repeats_are_kept() -> None:
    request = WebhookRequest("POST", URL, {}, b"a=1&b=&a=2&c=%2B1")
    assert request.form_items() == [("a", "1"), ("b", ""), ("a", "2"), ("c", "+1")]
    assert request.form() == {"a": "2", "b": "", "c": "+1"}
    assert request.query() == {"ref": "r1", "empty": ""}


def test_a_get_carries_its_form_in_the_query() -> None:
    assert WebhookRequest("GET", URL).form() == {"ref": "r1", "empty": ""}


def test_header_names_are_found_in_any_case() -> None:
    assert WebhookRequest("POST", URL, {"x-signed": "yes"}).header("X-Signed") == "yes"


@pytest.mark.parametrize("body", [b"", b"{half", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        WebhookRequest("POST", URL, {}, body).json()


@pytest.mark.parametrize("body", [b"\xff=1", b"a=1&" * 1500])
def test_what_is_no_form_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        WebhookRequest("POST", URL, {}, body).form()


@pytest.mark.parametrize(
    ("method", "fields"), [("POST", {"a": 1}), ("GET", {"b": "2", "c": ""}), ("get", {"b": "2", "c": ""})]
)
def test_a_webhook_in_json_may_come_as_the_query_of_a_get(method: str, fields: dict[str, object]) -> None:
    assert WebhookRequest(method, "https://x/acme?b=2&c=", {}, b'{"a": 1}').fields() == fields


@pytest.mark.parametrize(
    ("url", "more", "whole"),
    [
        ("https://x/a", {"ref": "1", "to": "+1 & 2"}, "https://x/a?ref=1&to=%2B1+%26+2"),
        ("https://x/a?ref=1", {"keys": "1#", "record": None, "show": ""}, "https://x/a?ref=1&keys=1%23"),
        ("https://x/a", {"record": None}, "https://x/a"),
        ("", {"ref": "1"}, ""),
    ],
)
def test_a_url_of_ours_is_given_more_to_bring_back(url: str, more: dict[str, str | None], whole: str) -> None:
    assert with_query(url, more) == whole
