"""Offer and answer: which description comes to which terms, and what is answered."""

from __future__ import annotations

from anycarrier_sip import sdp
from anycarrier_sip.sdp import LocalMedia, Negotiated


def media(**changes: object) -> LocalMedia:
    keys = {suite: bytes([number]) * 30 for number, suite in enumerate(sdp.SUITES, 1)}
    return LocalMedia(**{"address": "192.0.2.1", "port": 10000, "session_id": 7, "keys": keys, **changes})  # type: ignore[arg-type]


def description(*lines: str, address: str = "198.51.100.9", version: int = 1) -> bytes:
    head = ("v=0", f"o=far {5} {version} IN IP4 {address}", "s=call", f"c=IN IP4 {address}", "t=0 0")
    return "\r\n".join([*head, *lines, ""]).encode()


def answered(
    *lines: str, local: LocalMedia | None = None, address: str = "198.51.100.9"
) -> tuple[list[str], Negotiated]:
    """The lines of our answer after ``t=``, and the terms."""
    body, terms = sdp.answer(description(*lines, address=address), local or media())
    return body.decode().split("t=0 0\r\n")[1].splitlines(), terms


def test_an_offer_names_both_codecs_and_telephone_events() -> None:
    assert sdp.offer(media()).decode().splitlines() == [
        "v=0", "o=- 7 1 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0",
        "m=audio 10000 RTP/AVP 0 8 101", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15", "a=ptime:20", "a=rtcp-mux", "a=sendrecv",
    ]  # fmt: skip


def test_an_answer_takes_the_first_codec_that_fits_and_no_comfort_noise() -> None:
    lines, terms = answered("m=audio 4000 RTP/AVP 9 8 0 13 96", "a=rtpmap:96 telephone-event/8000", "a=fmtp:96 0-15")
    assert lines == [
        "m=audio 10000 RTP/AVP 8 96", "a=rtpmap:8 PCMA/8000", "a=rtpmap:96 telephone-event/8000", "a=fmtp:96 0-15",
        "a=ptime:20", "a=sendrecv",
    ]  # fmt: skip
    assert terms == Negotiated(
        "PCMA", 8, ("198.51.100.9", 4000), ("198.51.100.9", 4001), telephone_event=96, telephone_event_received=96
    )
