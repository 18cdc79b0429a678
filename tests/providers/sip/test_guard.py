"""Who may speak to us: P1, P2 and P8 of the guard, by addresses and times."""

from __future__ import annotations

import logging

import pytest

from anycarrier_sip.guard import Guard

PEER, STRANGER = "192.0.2.7", "198.51.100.1"


def guard(**options: bool) -> Guard:
    """Whose peers are 192.0.2.x, of one credential up to .99, of each its own beyond."""
    peers = {f"192.0.2.{number}": [max(99, number)] for number in range(256)}
    return Guard(lambda address: peers.get(address, ()), **options)


def test_p1_known_is_a_peer_and_nobody_else() -> None:
    asked = guard()
    assert asked.datagram(PEER, 5) and asked.trusts(PEER) and asked.counters.strangers == 0
    assert not asked.datagram(STRANGER, 5) and not asked.trusts(STRANGER) and asked.counters.strangers == 1


def test_p1_strangers_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    asked = guard()
    for at in range(100, 200):
        asked.datagram(STRANGER, at)
    assert [record.getMessage() for record in caplog.records] == [
        "sip: dropped 1 datagrams of strangers, the last from 198.51.100.1",
        "sip: dropped 60 datagrams of strangers, the last from 198.51.100.1",
    ]


def test_who_was_asked_is_forgotten() -> None:
    asked = guard()
    for number in range(70):
        asked.expect(f"10.0.0.{number}", 5)
    asked.expect(STRANGER, 70)
    assert asked.datagram(STRANGER, 71) and set(asked._expected) == {STRANGER}


def test_who_was_asked_may_answer_for_a_while() -> None:
    asked = guard()
    assert not asked.datagram(STRANGER, 10)
    asked.expect(STRANGER, 10)
    assert asked.datagram(STRANGER, 10) and asked.connection(STRANGER, [], 10)
    asked.expect(STRANGER, 70)
    assert asked.datagram(STRANGER, 133)
    assert not asked.datagram(STRANGER, 135)


def test_who_shares_a_dialog_is_known_until_the_last_one_ends() -> None:
    asked = guard()
    assert not asked.datagram(STRANGER, 10)
    asked.hold(STRANGER)
    asked.hold(STRANGER)
    asked.release(STRANGER)
    assert asked.datagram(STRANGER, 10)
    asked.release(STRANGER)
    assert not asked.datagram(STRANGER, 12)


def test_p8_a_thousand_datagrams_a_second_of_one_address() -> None:
    asked = guard()
    assert sum(asked.datagram(PEER, 10 + one / 2000) for one in range(1500)) == 1000
    assert asked.counters.over_rate == 500
    assert asked.datagram("192.0.2.8", 10.8)
    assert asked.datagram(PEER, 11) and list(asked._messages) == [PEER]


def test_p8_a_hundred_connections_fifty_of_one_credential_half_of_those_of_one_address() -> None:
    asked = guard()
    others = [f"192.0.2.{number}" for number in range(100, 200)]
    assert asked.connection(PEER, others[:99], 10) and not asked.connection(PEER, others, 10)
    assert asked.connection(PEER, [PEER] * 24, 10) and not asked.connection(PEER, [PEER] * 25, 10)
    of_one = [f"192.0.2.{number}" for number in range(10, 60)]
    assert asked.connection(PEER, of_one[1:], 10) and not asked.connection(PEER, of_one, 10)
    assert asked.connection("192.0.2.200", of_one, 10)
    assert asked.counters.refused_connections == 3 and asked.counters.stranger_connections == 0
    assert not asked.connection(STRANGER, [], 10)
    assert asked.counters.stranger_connections == 1


def test_p8_strangers_have_half_of_the_places_and_one_of_them_ten_until_he_has_logged_in() -> None:
    asked = guard(strangers=True)
    crowd = [f"10.0.0.{number}" for number in range(50)]
    assert asked.connection(STRANGER, [*crowd[:30], *[STRANGER] * 9], 10)
    assert not asked.connection(STRANGER, [STRANGER] * 10, 10)
    assert asked.connection(STRANGER, [*crowd[:49], PEER, PEER], 10) and not asked.connection(STRANGER, crowd, 10)
    assert asked.connection(PEER, crowd, 10)
    asked.hold(STRANGER)
    assert asked.connection(STRANGER, crowd, 10) and asked.connection(STRANGER, [STRANGER] * 49, 10)
    assert not asked.connection(STRANGER, [STRANGER] * 50, 10)


def test_p8_a_network_of_ipv6_is_one_stranger() -> None:
    asked = guard(strangers=True)
    assert not asked.connection("2001:db8::ffff", [f"2001:db8::{number}" for number in range(10)], 10)
    assert asked.connection("2001:db8:0:1::1", [f"2001:db8::{number}" for number in range(10)], 10)
    assert [asked.may_challenge(f"2001:db8::{number}", 10) for number in range(12)] == [True] * 10 + [False] * 2


def test_p2_with_softphones_strangers_are_read() -> None:
    asked = guard(strangers=True)
    assert asked.datagram(STRANGER, 10) and asked.connection(STRANGER, [], 10)
    assert not asked.is_peer(STRANGER)


def test_p2_ten_challenges_a_second_and_address() -> None:
    asked = guard(strangers=True)
    assert [asked.may_challenge(STRANGER, 10.5) for _ in range(12)] == [True] * 10 + [False] * 2
    assert asked.may_challenge(PEER, 10.5) and asked.may_challenge(STRANGER, 11)
    assert asked.counters.challenges == 12


def test_p2_three_wrong_answers_are_ten_minutes_of_silence() -> None:
    asked = guard(strangers=True)
    for _ in range(2):
        asked.wrong_answer(STRANGER, "alice", 10)
    assert asked.datagram(STRANGER, 10)
    asked.wrong_answer(STRANGER, "alice", 10)
    assert not asked.datagram(STRANGER, 609.9) and not asked.connection(STRANGER, [], 609.9)
    assert asked.datagram("198.51.100.2", 11)
    assert asked.counters.silenced == 2 and asked.counters.wrong_answers == 3
    assert asked.datagram(STRANGER, 610)
    asked.wrong_answer(STRANGER, "alice", 611)
    assert asked.datagram(STRANGER, 611)


def test_p2_who_is_not_heard_is_counted_and_named_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    asked = guard(strangers=True)
    for address in (STRANGER, "198.51.100.3", PEER):
        for _ in range(3):
            asked.wrong_answer(address, "alice", 10)
    assert asked.silent_places(609) == 2 and asked.silent_places(610) == 0
    [told] = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert STRANGER in told and "a telephone set wrong" in told and "alice" not in told
    for _ in range(3):
        asked.wrong_answer("198.51.100.3", "alice", 70)
    assert "198.51.100.3" in caplog.messages[-1]


def test_p2_a_right_answer_forgets_mistakes_and_peers_are_never_silenced() -> None:
    asked = guard(strangers=True)
    for _ in range(4):
        asked.wrong_answer(STRANGER, "alice", 10)
        asked.right_answer(STRANGER, "alice")
    assert asked.datagram(STRANGER, 10)
    for _ in range(3):
        asked.wrong_answer(PEER, "alice", 10)
    assert asked.datagram(PEER, 11) and asked.connection(PEER, [], 11)


def test_p2_guesses_from_many_addresses_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anycarrier_sip.guard.REMEMBERED", 50)
    asked = guard(strangers=True)
    for number in range(60):
        asked.may_challenge(f"10.0.0.{number}", 10)
        asked.wrong_answer(f"10.0.0.{number}", "alice", 10)
    assert len(asked._wrong) <= 50
    assert asked.may_challenge(STRANGER, 11) and list(asked._challenged) == [STRANGER]
    for _ in range(3):
        asked.wrong_answer("10.0.0.1", "alice", 10)
        asked.wrong_answer("10.0.0.2", "alice", 700)
    assert set(asked._silent) == {"10.0.0.2"}
