"""Who may speak to us: P1, P2 and P8 of the guard, by addresses and times."""

from __future__ import annotations

import logging
from ipaddress import ip_network

import pytest

from anycarrier_sip.guard import Guard

PEER, STRANGER = "192.0.2.7", "198.51.100.1"


def guard(**options: bool) -> Guard:
    return Guard(lambda: [ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")], **options)


def test_p1_known_is_who_is_in_a_network_and_nobody_else() -> None:
    asked = guard()
    assert [asked.datagram(one, 5) for one in (PEER, "2001:db8::1", "::ffff:192.0.2.9")] == [True, True, True]
    assert [asked.datagram(one, 5) for one in (STRANGER, "2001:db9::1", "::ffff:198.51.100.1")] == [False] * 3
    assert asked.counters.strangers == 3 and asked.is_peer(PEER) and not asked.is_peer(STRANGER)


def test_p1_strangers_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    asked = guard()
    for at in range(100, 200):
        asked.datagram(STRANGER, at)
    assert [record.getMessage() for record in caplog.records] == [
        "sip: dropped 1 datagrams of strangers, the last from 198.51.100.1",
        "sip: dropped 60 datagrams of strangers, the last from 198.51.100.1",
    ]


def test_p1_many_strangers_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anycarrier_sip.guard.REMEMBERED", 50)
    asked = guard()
    asked.expect("198.51.100.2", 5)
    for number in range(70):
        asked.datagram(f"10.0.0.{number}", 5)
    assert len(asked._sources) <= 50 and asked.datagram(PEER, 5) and asked.datagram("198.51.100.2", 5)
    for number in range(70):
        asked.datagram(f"10.0.0.{number}", 80)
    assert asked._expected == {}


def test_who_was_asked_may_answer_for_a_while() -> None:
    asked = guard()
    assert not asked.datagram(STRANGER, 10)
    asked.expect(STRANGER, 10)
    assert asked.datagram(STRANGER, 10) and asked.connection(STRANGER, 0, 10)
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


def test_changed_networks_count_within_a_second_or_when_told() -> None:
    networks = [ip_network("192.0.2.0/24")]
    asked = Guard(lambda: networks)
    assert asked.datagram(PEER, 10) and not asked.datagram(STRANGER, 10)
    networks[:] = [ip_network("198.51.100.0/24")]
    assert asked.datagram(PEER, 10.5) and not asked.datagram(STRANGER, 10.5)
    assert not asked.datagram(PEER, 11) and asked.datagram(STRANGER, 11)
    networks[:] = []
    asked.changed()
    assert not asked.datagram(STRANGER, 11)


def test_p8_a_thousand_datagrams_a_second_of_one_address() -> None:
    asked = guard()
    assert sum(asked.datagram(PEER, 10 + one / 2000) for one in range(1500)) == 1000
    assert asked.counters.over_rate == 500
    assert asked.datagram("192.0.2.8", 10.8)
    assert asked.datagram(PEER, 11)


def test_p8_a_hundred_connections() -> None:
    asked = guard()
    assert asked.connection(PEER, 99, 10) and not asked.connection(PEER, 100, 10)
    assert asked.counters.refused_connections == 1 and asked.counters.stranger_connections == 0
    assert not asked.connection(STRANGER, 0, 10)
    assert asked.counters.stranger_connections == 1


def test_p2_with_softphones_strangers_are_read() -> None:
    asked = guard(strangers=True)
    assert asked.datagram(STRANGER, 10) and asked.connection(STRANGER, 0, 10)
    assert not asked.is_peer(STRANGER)


def test_p2_ten_challenges_a_second_and_address() -> None:
    asked = guard(strangers=True)
    assert [asked.may_challenge(STRANGER, 10.5) for _ in range(12)] == [True] * 10 + [False] * 2
    assert asked.may_challenge(PEER, 10.5) and asked.may_challenge(STRANGER, 11)
    assert asked.counters.challenges == 12


def test_p2_three_wrong_answers_are_ten_minutes_of_silence() -> None:
    asked = guard(strangers=True)
    for _ in range(2):
        asked.wrong_answer(STRANGER, 10)
    assert asked.datagram(STRANGER, 10)
    asked.wrong_answer(STRANGER, 10)
    assert not asked.datagram(STRANGER, 609.9) and not asked.connection(STRANGER, 0, 609.9)
    assert asked.datagram("198.51.100.2", 11)
    assert asked.counters.silenced == 2 and asked.counters.wrong_answers == 3
    assert asked.datagram(STRANGER, 610)
    asked.wrong_answer(STRANGER, 611)
    assert asked.datagram(STRANGER, 611)


def test_p2_a_right_answer_forgets_mistakes_and_peers_are_never_silenced() -> None:
    asked = guard(strangers=True)
    for _ in range(4):
        asked.wrong_answer(STRANGER, 10)
        asked.right_answer(STRANGER)
    assert asked.datagram(STRANGER, 10)
    for _ in range(3):
        asked.wrong_answer(PEER, 10)
    assert asked.datagram(PEER, 11) and asked.connection(PEER, 0, 11)


def test_p2_guesses_from_many_addresses_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anycarrier_sip.guard.REMEMBERED", 50)
    asked = guard(strangers=True)
    for number in range(60):
        asked.may_challenge(f"10.0.0.{number}", 10)
        asked.wrong_answer(f"10.0.0.{number}", 10)
    assert len(asked._challenged) <= 50 and len(asked._wrong) <= 50
    for _ in range(3):
        asked.wrong_answer("10.0.0.1", 10)
        asked.wrong_answer("10.0.0.2", 700)
    assert set(asked._silent) == {"10.0.0.2"}
