"""Offer and answer: which description comes to which terms, and what is answered."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycarrier_sip import sdp
from anycarrier_sip.sdp import SUITES, LocalMedia, Negotiated, NotAcceptable, SrtpKeys

KEY = bytes(range(30))
INLINE = b64encode(KEY).decode()
FAR = "198.51.100.9"
AUDIO = "m=audio 4000 RTP/AVP 0"


def media(**changes: Any) -> LocalMedia:
    keys = {suite: bytes([number]) * 30 for number, suite in enumerate(SUITES, 1)}
    return LocalMedia(**{"address": "192.0.2.1", "port": 10000, "session_id": 7, "keys": keys, **changes})


def description(*lines: str, address: str = FAR, version: int = 1) -> bytes:
    head = ("v=0", f"o=far 5 {version} IN IP4 {address}", "s=call", f"c=IN IP4 {address}", "t=0 0")
    return "\r\n".join([*head, *lines, ""]).encode()


def answered(*lines: str, local: LocalMedia | None = None, address: str = FAR) -> tuple[list[str], Negotiated]:
    """The lines of our answer after ``t=``, and the terms."""
    body, terms = sdp.answer(description(*lines, address=address), local or media())
    return body.decode().split("t=0 0\r\n")[1].splitlines(), terms


def terms_of(*lines: str, **changes: Any) -> Negotiated:
    return answered(*lines, local=media(**changes))[1]


# --- offers -----------------------------------------------------------------------------------------------------------


def test_an_offer_names_both_codecs_and_telephone_events() -> None:
    assert sdp.offer(media()).decode().splitlines() == [
        "v=0", "o=- 7 1 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0",
        "m=audio 10000 RTP/AVP 0 8 101", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15", "a=ptime:20", "a=rtcp-mux", "a=sendrecv",
    ]  # fmt: skip


def test_direction_and_ip_version_are_the_calls_own() -> None:
    text = sdp.offer(media(address="2001:db8::1"), direction="sendonly").decode()
    assert "o=- 7 1 IN IP6 2001:db8::1\r\n" in text and "c=IN IP6 2001:db8::1\r\n" in text
    assert text.endswith("a=sendonly\r\n")


def test_the_version_counts_descriptions_that_differ() -> None:
    local = media()
    first = sdp.offer(local)
    assert sdp.offer(local) == first
    held = sdp.offer(local, direction="sendonly")
    assert b"o=- 7 2 " in held and sdp.offer(local, direction="sendonly") == held
    assert b"o=- 7 3 " in sdp.offer(local)


def test_an_answer_is_the_same_for_an_unchanged_offer() -> None:
    local, body = media(), description(AUDIO)
    first = sdp.answer(body, local)
    assert sdp.answer(body, local) == first
    changed, _ = sdp.answer(description(AUDIO, "a=sendonly", version=2), local)
    assert b"o=- 7 2 " in changed


def test_an_offer_after_an_answer_has_its_media_lines_and_payload_types() -> None:
    local = media()
    audio = ("m=audio 4000 RTP/AVP 8 97", "a=rtpmap:97 telephone-event/8000")
    sdp.answer(description("m=video 5000 RTP/AVP 96", *audio), local)
    lines = sdp.offer(local).decode().splitlines()
    assert [line for line in lines if line[:2] == "m="] == ["m=video 0 RTP/AVP 96", "m=audio 10000 RTP/AVP 0 8 97"]
    assert "a=rtpmap:97 telephone-event/8000" in lines
    body = description("m=video 0 RTP/AVP 96", "m=audio 4000 RTP/AVP 8")
    assert sdp.accept(body, local).codec == "PCMA"


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_takes_the_first_codec_that_fits_and_no_comfort_noise() -> None:
    lines, terms = answered("m=audio 4000 RTP/AVP 9 8 0 13 96", "a=rtpmap:96 telephone-event/8000", "a=fmtp:96 0-16")
    assert lines == [
        "m=audio 10000 RTP/AVP 8 96", "a=rtpmap:8 PCMA/8000", "a=rtpmap:96 telephone-event/8000", "a=fmtp:96 0-15",
        "a=ptime:20", "a=sendrecv",
    ]  # fmt: skip
    assert terms == Negotiated(
        "PCMA", 8, (FAR, 4000), (FAR, 4001), telephone_event=96, telephone_event_received=96
    )


def test_a_codec_may_have_any_payload_type_of_its_own() -> None:
    lines, terms = answered("m=audio 4000 RTP/AVP 98 97", "a=rtpmap:97 pcmu/8000/1", "a=rtpmap:98 opus/48000/2")
    assert lines[:2] == ["m=audio 10000 RTP/AVP 97", "a=rtpmap:97 PCMU/8000"]
    assert (terms.codec, terms.payload_type, terms.telephone_event) == ("PCMU", 97, None)


def test_telephone_events_are_those_at_the_codecs_rate() -> None:
    events = ("a=rtpmap:96 telephone-event/48000", "a=rtpmap:97 telephone-event/8000")
    assert terms_of("m=audio 4000 RTP/AVP 0 96 97", *events).telephone_event == 97
    assert terms_of("m=audio 4000 RTP/AVP 0 96", *events).telephone_event is None


def test_a_payload_type_is_not_one_that_would_be_taken_for_rtcp() -> None:
    with pytest.raises(NotAcceptable):
        terms_of("m=audio 4000 RTP/AVP 72", "a=rtpmap:72 PCMU/8000")


def test_media_lines_are_mirrored_and_others_have_port_0() -> None:
    lines, terms = answered(
        "m=video 5000 RTP/AVP 96 97", "a=rtpmap:96 H264/90000", "m=audio 4000 RTP/AVP 0", "m=audio 4100 RTP/AVP 0",
        "m=image 4200 udptl t38",
    )  # fmt: skip
    assert [line for line in lines if line[:2] == "m="] == [
        "m=video 0 RTP/AVP 96 97", "m=audio 10000 RTP/AVP 0", "m=audio 0 RTP/AVP 0", "m=image 0 udptl t38"
    ]  # fmt: skip
    assert terms.remote == (FAR, 4000)


@pytest.mark.parametrize(
    "lines", [
        (), ("m=video 4000 RTP/AVP 0",), ("m=audio 4000 RTP/AVP 18 9",), ("m=audio 0 RTP/AVP 0",),
        ("m=audio 4000 RTP/SAVP 0", f"a=crypto:1 {SUITES[0]} inline:{INLINE}"), ("m=audio 4000 UDP/TLS/RTP/SAVPF 0",),
        ("m=audio 4000/2 RTP/AVP 0",), ("m=audio 99999 RTP/AVP 0",), ("m=audio -1 RTP/AVP 0",), ("m=audio 4000",),
        (AUDIO, "c=IN IP4 phone.example"), (AUDIO, "c=IN IP4 224.0.0.1/16"), (AUDIO, "c=IN IP4 255.255.255.255"),
        (AUDIO, "c=IN IP6 2001:db8::2"), (AUDIO, "c=IN IP4 999.1.1.1"), (AUDIO, "c="), ("m=audio 4000 RTP/AVP zero",),
        ("m=audio 4000 RTP/AVP 0 \x7f",), (*[AUDIO] * 17,), ("m=audio 4000 RTP/AVP " + "0 " * 70,),
    ], ids=range(20),
)  # fmt: skip
def test_what_does_not_fit_is_not_acceptable(lines: tuple[str, ...]) -> None:
    local = media()
    with pytest.raises(NotAcceptable):
        sdp.answer(description(*lines), local)
    assert local == media(), "what was refused leaves nothing behind"


@pytest.mark.parametrize(
    "body", [b"", b"v=1\r\n", b"\xff\xfe", b"v=0", b"m=audio 4000 RTP/AVP 0\r\nv=0\r\n"], ids=range(5)
)
def test_what_is_no_description_is_not_acceptable(body: bytes) -> None:
    with pytest.raises(NotAcceptable):
        sdp.answer(body, media())
    with pytest.raises(NotAcceptable):
        sdp.accept(body, media())


@pytest.mark.parametrize(
    ("theirs", "ours", "held"),
    [("sendrecv", "sendrecv", False), ("sendonly", "recvonly", True), ("recvonly", "sendonly", False),
     ("inactive", "inactive", True)],
)  # fmt: skip
def test_a_direction_is_answered_by_its_opposite(theirs: sdp.Direction, ours: sdp.Direction, held: bool) -> None:
    for lines in ((AUDIO, f"a={theirs}"), (f"a={theirs}", AUDIO)):
        answer, terms = answered(*lines)
        assert answer[-1] == f"a={ours}" and (terms.direction, terms.held) == (ours, held)
    assert terms_of("a=sendonly", AUDIO, f"a={theirs}").direction == ours, "the media line's own comes first"


@pytest.mark.parametrize(
    ("lines", "direction"), [((), "recvonly"), (("a=recvonly",), "inactive"), (("a=sendonly",), "recvonly")]
)
def test_the_address_of_nobody_is_hold(lines: tuple[str, ...], direction: str) -> None:
    _, terms = answered(AUDIO, *lines, address="0.0.0.0")
    assert terms.held and terms.direction == direction


def test_the_media_line_has_an_address_of_its_own() -> None:
    assert terms_of(AUDIO, "c=IN IP4 203.0.113.5").remote == ("203.0.113.5", 4000)


@pytest.mark.parametrize("number", ["9" * 5000, "1" + "0" * 9, "\u00b2", "-1", ""], ids=range(5))
def test_a_number_that_is_none_is_passed_over(number: str) -> None:
    lines = (f"a=ptime:{number}", f"a=rtcp:{number}", f"a=crypto:{number} {SUITES[0]} inline:{INLINE}")
    terms = terms_of(AUDIO, *lines, srtp="offered")
    assert terms == terms_of(AUDIO) and terms.remote_rtcp == (FAR, 4001)
    assert terms_of(AUDIO, f"a=rtcp:{number} IN IP4 203.0.113.5").remote_rtcp == (FAR, 4001)


def test_rtcp_goes_where_it_is_wanted() -> None:
    assert terms_of(AUDIO).remote_rtcp == (FAR, 4001)
    assert terms_of(AUDIO, "a=rtcp:4555").remote_rtcp == (FAR, 4555)
    assert terms_of(AUDIO, "a=rtcp:4555 IN IP4 203.0.113.5").remote_rtcp == ("203.0.113.5", 4555)
    assert terms_of(AUDIO, "a=rtcp:nowhere").remote_rtcp == (FAR, 4001)
    lines, terms = answered(AUDIO, "a=rtcp-mux", "a=rtcp:4555")
    assert terms.rtcp_mux and terms.remote_rtcp == (FAR, 4000) and "a=rtcp-mux" in lines


# --- their answers ----------------------------------------------------------------------------------------------------


def test_an_answer_to_ours_settles_the_terms() -> None:
    body = description("m=audio 4000 RTP/AVP 8 96", "a=rtpmap:96 telephone-event/8000", "a=rtcp-mux")
    local = media()
    sdp.offer(local)
    assert sdp.accept(body, local) == Negotiated(
        "PCMA", 8, (FAR, 4000), (FAR, 4000), telephone_event=96, telephone_event_received=101, rtcp_mux=True
    )


def test_an_answer_with_both_codecs_lets_the_far_end_change_between_them() -> None:
    terms = sdp.accept(description("m=audio 4000 RTP/AVP 0 8"), media())
    assert (terms.codec, terms.other_codec) == ("PCMU", 8)


@pytest.mark.parametrize("line", ["m=audio 0 RTP/AVP 0", "m=audio 4000 RTP/AVP 18", "m=video 4000 RTP/AVP 0"])
def test_an_answer_that_takes_nothing_is_not_acceptable(line: str) -> None:
    with pytest.raises(NotAcceptable):
        sdp.accept(description(line), media())


def test_an_answer_does_not_ask_for_more_than_was_offered() -> None:
    with pytest.raises(NotAcceptable):
        sdp.accept(description(AUDIO, "a=sendrecv"), media(), "recvonly")
    assert sdp.accept(description(AUDIO, "a=sendonly"), media(), "recvonly").direction == "recvonly"


# --- SRTP -------------------------------------------------------------------------------------------------------------


def test_srtp_is_offered_as_wanted() -> None:
    inlines = [b64encode(bytes([tag]) * 30).decode() for tag in (1, 2)]
    keys = [f"a=crypto:{tag} {suite} inline:{inlines[tag - 1]}" for tag, suite in enumerate(SUITES, 1)]
    required = sdp.offer(media(srtp="required")).decode().splitlines()
    assert "m=audio 10000 RTP/SAVP 0 8 101" in required and [line for line in required if "crypto" in line] == keys
    offered = sdp.offer(media(srtp="offered")).decode().splitlines()
    assert "m=audio 10000 RTP/AVP 0 8 101" in offered and [line for line in offered if "crypto" in line] == keys
    assert "crypto" not in sdp.offer(media()).decode()


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("protocol", ["RTP/SAVP", "RTP/AVP", "RTP/SAVPF"])
def test_the_first_suite_that_is_ours_is_answered_with_our_key(suite: str, protocol: str) -> None:
    lines, terms = answered(
        f"m=audio 4000 {protocol} 0", f"a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:{INLINE}",
        f"a=crypto:4 {suite} inline:{INLINE}|2^31", local=media(srtp="offered"),
    )  # fmt: skip
    ours = bytes([SUITES.index(suite) + 1]) * 30
    assert terms.srtp == SrtpKeys(suite, ours, KEY)
    assert f"a=crypto:4 {suite} inline:{b64encode(ours).decode()}" in lines and protocol in lines[0]


@pytest.mark.parametrize(
    "value", [
        f"1 {SUITES[0]} inline:{INLINE}|1:4", f"1 {SUITES[0]} inline:{INLINE}|2^20|1:4", f"1 {SUITES[0]} inline:AAAA",
        f"1 {SUITES[0]} inline:{INLINE} UNENCRYPTED_SRTP", f"1 {SUITES[0]} {INLINE}", f"x {SUITES[0]} inline:{INLINE}",
        f"1 {SUITES[0]} inline:%%%", "1", "",
    ], ids=range(9),
)  # fmt: skip
def test_keys_that_cannot_be_used_are_not_acceptable_where_srtp_is_required(value: str) -> None:
    with pytest.raises(NotAcceptable):
        terms_of("m=audio 4000 RTP/SAVP 0", f"a=crypto:{value}", srtp="required")
    assert terms_of(AUDIO, f"a=crypto:{value}", srtp="offered").srtp is None


def test_required_srtp_is_not_talked_down() -> None:
    with pytest.raises(NotAcceptable, match="required"):
        terms_of(AUDIO, srtp="required")
    with pytest.raises(NotAcceptable, match="required"):
        sdp.accept(description(AUDIO), media(srtp="required"))
    assert terms_of(AUDIO, f"a=crypto:1 {SUITES[0]} inline:{INLINE}", srtp="off").srtp is None


def test_P10_no_key_is_in_what_is_logged() -> None:
    local = media(srtp="required")
    lines = ("m=audio 4000 RTP/SAVP 0", f"a=crypto:1 {SUITES[0]} inline:{INLINE}")
    _, terms = answered(*lines, local=local)
    for shown in (repr(local), repr(terms), str(terms), repr(terms.srtp)):
        assert INLINE[:8] not in shown and "x01" not in shown and "x00" not in shown
    with pytest.raises(NotAcceptable) as refused:
        terms_of(*lines)
    assert INLINE not in str(refused.value)


# --- anything at all --------------------------------------------------------------------------------------------------

WORDS = st.sampled_from([
    "v=0", "m=audio 4000 RTP/AVP 0", "m=audio 0 RTP/SAVP 0 8", "m=", "m=audio", "c=IN IP4 198.51.100.9", "c=IN IP6 ::",
    "c=IN IP4 0.0.0.0", "a=rtpmap:0 PCMU/8000", "a=rtpmap:", "a=crypto:", f"a=crypto:1 {SUITES[0]} inline:{INLINE}",
    "a=rtcp:", "a=rtcp:1 IN IP4 x", "a=ptime:", "a=ptime:²", "a=sendonly", "a=inactive", "a", "=", "a=rtcp-mux", "o=",
    "m=audio ² RTP/AVP 0", "m=audio 4000 RTP/AVP ² 0", "a=rtpmap:² PCMU/8000", "c=IN IP4 198.51.100.9/127/3",
])  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.lists(st.one_of(WORDS, st.text(max_size=20)), max_size=12).map(
            lambda lines: "\r\n".join(["v=0", *lines]).encode("utf-8", "replace")
        ),
    ),
    srtp=st.sampled_from(["off", "offered", "required"]),
)
def test_any_body_at_all_is_answered_or_not_acceptable(body: bytes, srtp: sdp.Srtp) -> None:
    local = media(srtp=srtp)
    try:
        made, terms = sdp.answer(body, local)
    except NotAcceptable:
        pass
    else:
        assert terms.srtp is not None or srtp != "required"
        again = media(srtp=srtp)
        sdp.offer(again)
        sdp.accept(made.replace(b"192.0.2.1", FAR.encode()), media(srtp=srtp, layout=local.layout))
    try:
        sdp.accept(body, media(srtp=srtp))
    except NotAcceptable:
        pass
