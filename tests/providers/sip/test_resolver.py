"""RFC 3263 against a small DNS server of our own on loopback."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anycarrier_sip.message import Uri
from anycarrier_sip.resolver import NoTarget, Resolver, Target
from anycarrier_sip.settings import SipSettings
from dns_server import Dns
from virtual_time import virtually

HERE = ("127.0.0.0/8", "::1/128", "10.0.0.0/8")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called before the server falls silent: dnspython waits by the real clock."""
    return lambda: monkeypatch.setattr("anycarrier_sip.resolver.LIFETIME", 0.2)


Scene = Callable[[Dns, Resolver], Awaitable[None]]


def play(scene: Scene, listen: tuple[str, ...] = ("udp:127.0.0.1:0", "tcp:127.0.0.1:0"), **settings: Any) -> None:
    async def run() -> None:
        server = await Dns.open()
        given = {"private_targets": HERE, "nameservers": (server.address,), **settings}
        try:
            await scene(server, Resolver(SipSettings(listen=listen, **given), asyncio.get_running_loop().time))
        finally:
            await server.aclose()

    virtually(run())


async def found(resolver: Resolver, uri: str, transport: str | None = None) -> list[str]:
    return [str(target) for target in await resolver.targets(Uri.parse(uri), transport)]


@pytest.mark.parametrize(
    ("uri", "transport", "target"),
    [
        ("sip:127.0.0.9", None, "udp:127.0.0.9:5060"),
        ("sip:127.0.0.9:5070", None, "udp:127.0.0.9:5070"),
        ("sip:127.0.0.9;transport=TCP", None, "tcp:127.0.0.9:5060"),
        ("sip:127.0.0.9;transport=tls", None, "tls:127.0.0.9:5061"),
        ("sip:127.0.0.9;transport=udp", "tls", "tls:127.0.0.9:5061"),
        ("sips:127.0.0.9", None, "tls:127.0.0.9:5061"),
        ("sips:127.0.0.9;transport=tcp", None, "tls:127.0.0.9:5061"),
        ("sip:[::1]:5070", None, "udp:[::1]:5070"),
        ("sip:127.0.0.9;maddr=127.0.0.8", None, "udp:127.0.0.8:5060"),
    ],
)
def test_numeric_hosts_are_not_looked_up(uri: str, transport: str | None, target: str) -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        assert await found(resolver, uri, transport) == [target]
        assert server.asked == []

    play(scene)


def test_explicit_port_skips_naptr_and_srv() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        server.records["pbx.example", "A"] = ["10.1.1.1", "10.1.1.2"]
        targets = await found(resolver, "sip:pbx.example:5070")  # in whichever order the server gives them
        assert sorted(targets) == ["udp:10.1.1.1:5070", "udp:10.1.1.2:5070"]
        assert server.kinds() == ["A"]

    play(scene)


def test_naptr_then_srv_then_addresses_in_their_order() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        server.records |= {
            ("example.com", "NAPTR"): [
                '20 50 "s" "SIP+D2U" "" _sip._udp.example.com.',
                '10 90 "s" "SIP+D2T" "" _other.example.net.',
                '10 50 "s" "SIPS+D2T" "" _sips._tcp.example.com.',
                '5 50 "u" "E2U+sip" "!^.*$!sip:x@y!" .',
            ],
            ("_sip._udp.example.com", "SRV"): ["20 0 5060 two.example.com.", "10 0 5070 one.example.com."],
            ("_other.example.net", "SRV"): ["0 0 5080 one.example.com."],
            ("_sips._tcp.example.com", "SRV"): ["0 0 5061 one.example.com."],
            ("one.example.com", "A"): ["10.0.0.1"],
            ("two.example.com", "A"): ["10.0.0.2"],
        }
        assert await found(resolver, "sip:example.com") == [
            "tls:10.0.0.1:5061", "tcp:10.0.0.1:5080", "udp:10.0.0.1:5070", "udp:10.0.0.2:5060",
        ]  # fmt: skip
        targets = await resolver.targets(Uri.parse("sips:example.com"), None)
        assert targets == [Target("tls", "10.0.0.1", 5061, "example.com")]
        server.kinds()
        assert await found(resolver, "sip:example.com", "udp") == ["udp:10.0.0.1:5070", "udp:10.0.0.2:5060"]
        assert server.kinds() == [], "all is known by now"

    play(scene)


def test_without_naptr_each_transports_srv_is_asked() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        server.records |= {
            ("_sip._tcp.example.com", "SRV"): ["0 0 5062 one.example.com."],
            ("_sips._tcp.example.com", "SRV"): ["0 0 5063 one.example.com."],
            ("one.example.com", "A"): ["10.0.0.1"],
        }
        assert await found(resolver, "sip:example.com") == ["tcp:10.0.0.1:5062", "tls:10.0.0.1:5063"]
        assert server.kinds() == ["NAPTR", "SRV", "SRV", "SRV", "A"]

    play(scene)


def test_without_srv_the_hosts_own_address_and_the_default_port() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        server.records["pbx.example", "A"] = ["10.0.0.1"]
        assert await found(resolver, "sip:pbx.example") == ["udp:10.0.0.1:5060"]
        assert await found(resolver, "sips:pbx.example") == ["tls:10.0.0.1:5061"]
        assert await found(resolver, "sip:PBX.example.;transport=tcp") == ["tcp:10.0.0.1:5060"]

    play(scene)


def test_srv_that_says_not_here_is_not_here() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        server.records["_sip._udp.example.com", "SRV"] = ["0 0 0 ."]
        with pytest.raises(NoTarget, match="has no address"):
            await found(resolver, "sip:example.com", "udp")

    play(scene)


def test_srv_weights_are_drawn() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        server.records |= {
            ("_sip._udp.example.com", "SRV"): [
                "1 30 5060 a.example.com.", "1 10 5060 b.example.com.", "2 0 5060 c.example.com.",
            ],
            ("a.example.com", "A"): ["10.0.0.1"],
            ("b.example.com", "A"): ["10.0.0.2"],
            ("c.example.com", "A"): ["10.0.0.3"],
        }  # fmt: skip
        orders = [await found(resolver, "sip:example.com", "udp") for _ in range(400)]
        first = Counter(order[0] for order in orders)
        assert {order[2] for order in orders} == {"udp:10.0.0.3:5060"}
        assert 220 < first["udp:10.0.0.1:5060"] < 370 and first["udp:10.0.0.2:5060"] > 30

    play(scene)


def test_records_are_kept_for_their_ttl_and_then_rather_than_none(impatient: Callable[[], None]) -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        server.records["pbx.example", "A"] = ["10.0.0.1"]
        for _ in range(2):
            assert await found(resolver, "sip:pbx.example:5060") == ["udp:10.0.0.1:5060"]
        assert server.kinds() == ["A"]
        await asyncio.sleep(61)
        server.records["pbx.example", "A"] = ["10.0.0.2"]
        assert await found(resolver, "sip:pbx.example:5060") == ["udp:10.0.0.2:5060"]
        await asyncio.sleep(61)
        impatient()
        server.silent = True
        assert await found(resolver, "sip:pbx.example:5060") == ["udp:10.0.0.2:5060"]
        server.kinds()
        assert await found(resolver, "sip:pbx.example:5060") == ["udp:10.0.0.2:5060"]
        assert server.kinds() == []

    play(scene)


def test_names_that_do_not_exist_and_servers_that_do_not_answer(impatient: Callable[[], None]) -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        with pytest.raises(NoTarget, match=r"nowhere\.example has no address of a kind we have a socket for"):
            await found(resolver, "sip:nowhere.example")
        server.kinds()
        with pytest.raises(NoTarget):
            await found(resolver, "sip:nowhere.example")
        assert server.kinds() == []
        impatient()
        server.silent = True
        with pytest.raises(NoTarget, match=r"DNS gave no answer for silent\.example"):
            await found(resolver, "sip:silent.example")

    play(scene)


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        (("udp:127.0.0.1:0",), ["udp:10.0.0.1:5060"]),
        (("udp:[::1]:0",), ["udp:[::1]:5060"]),
        (("udp:127.0.0.1:0", "udp:[::1]:0"), ["udp:10.0.0.1:5060", "udp:[::1]:5060"]),
        (("tcp:127.0.0.1:0",), ["tcp:10.0.0.1:5060"]),
    ],
)
def test_only_what_we_have_a_socket_for(listen: tuple[str, ...], expected: list[str]) -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        server.records |= {("pbx.example", "A"): ["10.0.0.1"], ("pbx.example", "AAAA"): ["::1"]}
        assert await found(resolver, "sip:pbx.example") == expected

    play(scene, listen)


def test_private_addresses_are_refused_where_the_operator_has_not_listed_them() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        server.records |= {
            ("inside.example", "A"): ["169.254.169.254"],
            ("both.example", "A"): ["169.254.169.254", "10.0.0.1"],
        }
        for uri in ("sip:inside.example", "sip:169.254.169.254", "sip:x;maddr=192.168.1.1", "sip:[::ffff:192.168.1.1]"):
            with pytest.raises(NoTarget, match=r"private or reserved address.*SipSettings\(private_targets"):
                await found(resolver, uri)
        assert await found(resolver, "sip:both.example") == ["udp:10.0.0.1:5060"]

    play(scene)


def test_loopback_is_allowed_where_all_sockets_are_loopback() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        assert await found(resolver, "sip:127.0.0.1") == ["udp:127.0.0.1:5060"]

    async def refused(server: Dns, resolver: Resolver) -> None:
        with pytest.raises(NoTarget):
            await found(resolver, "sip:127.0.0.1")

    play(scene, private_targets=None)
    play(refused, ("udp:127.0.0.1:0", "udp:0.0.0.0:0"), private_targets=None, public_address="192.0.2.1")


def test_dead_targets_come_last_until_they_have_rested() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        server.records["pbx.example", "A"] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        uri = Uri.parse("sip:pbx.example:5060")
        one, two, three = await resolver.targets(uri)
        resolver.rest(one)
        resolver.rest(two, 90)
        assert await resolver.targets(uri) == [three, one, two]
        await asyncio.sleep(30)
        assert await resolver.targets(uri) == [one, three, two] and not resolver.resting(one)
        resolver.wake(two)
        assert await resolver.targets(uri) == [one, two, three]
        for target in (one, two, three):
            resolver.rest(target)
        assert await resolver.targets(uri) == [one, two, three], "better one of them than none"

    play(scene)


def test_other_transports_are_refused() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        with pytest.raises(NoTarget, match="the transport sctp is not spoken here"):
            await found(resolver, "sip:127.0.0.1;transport=sctp")

    play(scene)


def test_names_of_the_hosts_file_are_known() -> None:
    async def scene(server: Dns, resolver: Resolver) -> None:
        resolver._settings = SipSettings()
        assert await found(resolver, "sip:localhost:5060") == ["udp:127.0.0.1:5060"]

    play(scene)


def test_names_without_end_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anycarrier_sip.resolver.REMEMBERED", 3)

    async def scene(server: Dns, resolver: Resolver) -> None:
        for number in range(6):
            server.records[f"pbx{number}.example", "A"] = [f"10.0.0.{number}"]
            assert await found(resolver, f"sip:pbx{number}.example:5060") == [f"udp:10.0.0.{number}:5060"]
        assert [name for name, _ in resolver._known] == ["pbx3.example", "pbx4.example", "pbx5.example"]

    play(scene)
