"""REGISTER and OPTIONS over hours, in virtual time, against a registrar that follows a script."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anycarrier.errors import (
    AnycarrierError,
    AuthenticationFailed,
    NotFound,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
)
from anycarrier_sip.credential import SipCredential
from anycarrier_sip.message import NameAddr, Request, Response, reply
from anycarrier_sip.registration import Keepalive, Registration, check_login, standing_of
from anycarrier_sip.transaction import Flow
from sip_wire import OneTrunk, Registrar, Wire, on_a_wire

PBX: dict[str, Any] = {"host": "198.51.100.7", "username": "201", "password": "secret"}
STATIC: dict[str, Any] = {"host": "198.51.100.7", "registers": False}


def registering(
    play: Callable[[Wire, Registration], Awaitable[None]],
    registrar: Registrar,
    credential: SipCredential | None = None,
    **options: Any,
) -> None:
    async def run(wire: Wire, trunk: OneTrunk) -> None:
        registration = standing_of(trunk, wire.endpoint)
        assert isinstance(registration, Registration)
        registration.start()
        await play(wire, registration)
        await registration.stop()

    on_a_wire(run, credential or SipCredential(**PBX), registrar, **options)


def test_a_trunk_registers_and_answers_the_challenge() -> None:
    registrar = Registrar()

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(1)
        assert str(registration.status) == "registered at udp:198.51.100.7:5060"
        first, second = wire.requests
        assert first.headers.get("Authorization") is None
        assert (first.uri, str(first.to), first.headers.get("Expires")) == (
            "sip:198.51.100.7", "<sip:201@198.51.100.7>", "300",
        )  # fmt: skip
        assert NameAddr.parse(first.headers.get("Contact") or "").uri.user == "k3j2h1"
        assert second.cseq.number == first.cseq.number + 1
        assert (second.call_id, second.from_.tag) == (first.call_id, first.from_.tag)
        assert second.via.branch != first.via.branch
        assert list(registrar.bindings.values()) == [300]

    registering(play, registrar)
    assert list(registrar.bindings.values()) == [0], "unregistered at the end"


def test_the_contact_is_the_public_address() -> None:
    registrar = Registrar()

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(1)

    registering(play, registrar, listen=("udp:0.0.0.0:5060",), public_address="203.0.113.9")
    assert list(registrar.bindings) == ["<sip:k3j2h1@203.0.113.9:5060>"]


def test_it_is_refreshed_at_four_fifths_of_what_was_granted() -> None:
    registrar = Registrar()
    registrar.expires = 100

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(3600)
        times = wire.times("REGISTER")[1:]
        pauses = [after - before for before, after in itertools.pairwise(times) if after - before > 1]
        assert len(pauses) > 40
        assert 72 <= min(pauses) < max(pauses) <= 80.1
        assert len({round(pause, 3) for pause in pauses}) > 10, "jitter"

    registering(play, registrar)


def test_the_registrar_of_many_contacts_tells_ours_by_its_user() -> None:
    registrar = Registrar()
    registrar.others = ["<sip:other@192.0.2.77>;expires=9000"]
    registrar.expires = 60

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(1)
        assert registration.status.until == pytest.approx(60, abs=1)

    registering(play, registrar)


def test_an_interval_too_brief_is_asked_again_with_what_the_registrar_wants() -> None:
    registrar = Registrar()
    registrar.minimum = 900

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(3000)
        asked = [request.headers.get("Expires") for request in wire.requests]
        assert asked[:3] == ["300", "300", "900"]
        assert set(asked[2:]) == {"900"}, "it is remembered"
        assert registration.status.state == "up"

    registering(play, registrar)


def test_a_lost_connection_is_registered_over_a_new_one_at_once() -> None:
    registrar = Registrar()

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(10)
        assert list(wire.held.values()) == [1]
        wire.cut()
        await asyncio.sleep(0.5)
        assert wire.times("REGISTER")[-1] == pytest.approx(10, abs=0.1)
        connections = [flow.connection for _, _, flow in wire.sent]
        assert connections[0] != connections[-1]
        assert wire.endpoint.guard._held == {"198.51.100.7": 1}
        assert list(wire.held.values()) == [1]

    registering(play, registrar, SipCredential(**PBX, transport="tcp"))


def test_a_registrar_that_is_gone_is_asked_again_ever_more_rarely_and_found_when_it_is_back() -> None:
    registrar = Registrar()
    registrar.silent = True

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(3600)
        assert registration.status.state == "down"
        assert "no answer. Check that udp:198.51.100.7:5060 is right" in registration.status.problem
        starts: dict[str | None, float] = {}
        for at, request in zip(wire.times("REGISTER"), wire.requests, strict=True):
            starts.setdefault(request.via.branch, at)
        pauses = [after - before for before, after in itertools.pairwise(starts.values())]
        assert pauses[0] < 34
        assert 240 + 32 <= pauses[-1] <= 300 + 33
        registrar.silent = False
        await asyncio.sleep(340)
        assert registration.status.state == "up"
        assert registration.status.problem == ""
        registrar.forced = [500]
        tried = len(wire.requests)
        while len(wire.requests) == tried:
            await asyncio.sleep(1)
        await asyncio.sleep(2)
        assert registration.status.state == "up", "the pauses begin anew"

    registering(play, registrar)


def test_a_wrong_password_says_what_to_check_and_is_not_tried_quickly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    registrar = Registrar(password="another")

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(1)
        assert registration.status.state == "refused"
        assert "the registrar refused the password of user '201'" in registration.status.problem
        assert "Check username and password" in registration.status.problem
        assert len(wire.requests) == 2, "one challenge is answered once"
        await asyncio.sleep(46)
        assert len(wire.requests) == 2
        await asyncio.sleep(3600)
        assert len(wire.requests) < 60
        registrar.password = "secret"
        await asyncio.sleep(301)
        assert registration.status.state == "up"

    registering(play, registrar)
    assert "secret" not in caplog.text
    told = [record for record in caplog.records if "is not registered" in record.message]
    assert len(told) == 1, "said once, not each time"


def test_a_target_that_gives_nothing_or_503_rests_and_the_next_is_asked() -> None:
    registrar = Registrar()

    async def play(wire: Wire, registration: Registration) -> None:
        for spoil in (lambda: wire.dead.add("198.51.100.7"), lambda: setattr(wire, "answer", busy)):
            spoil()
            await asyncio.sleep(400)
            assert (registration.status.state, registration.status.where) == ("up", "udp:198.51.100.8:5060")
            wire.dead.clear()
        await asyncio.sleep(1)

    def busy(request: Request, flow: Flow) -> Response | None:
        return reply(request, 503, to_tag="x") if flow.remote[0] == "198.51.100.7" else registrar(request, flow)

    async def dead_first(wire: Wire, registration: Registration) -> None:
        wire.dead.add("198.51.100.7")
        await asyncio.sleep(6)
        first, second = await wire.endpoint.targets(registration.uri, None)
        assert (first.host, second.host) == ("198.51.100.8", "198.51.100.7")
        await play(wire, registration)

    registering(dead_first, registrar, hosts=["198.51.100.7", "198.51.100.8"])


def test_a_registrar_asked_to_wait_is_left_alone_that_long() -> None:
    registrar = Registrar()
    plain = registrar._plain

    def busy(request: Any, status: int) -> Any:
        response = plain(request, status)
        if status == 503:
            response.headers.add("Retry-After", "120 (maintenance)")
        return response

    registrar._plain = busy  # type: ignore[method-assign]
    registrar.forced = [503]

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(90)
        assert len(wire.requests) == 1
        await asyncio.sleep(32)
        assert registration.status.state == "up"

    registering(play, registrar)


def test_stopping_waits_for_no_answer_for_long() -> None:
    registrar = Registrar()

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(5)
        registrar.silent = True
        before = wire.endpoint.now()
        await registration.stop()
        assert wire.endpoint.now() - before <= 2.1
        assert wire.requests[-1].headers.get("Expires") == "0"
        assert registration.status.state == "stopped"
        assert not wire.held
        assert not wire.endpoint.losses

    registering(play, registrar)


def test_a_trunk_that_never_registered_does_not_unregister() -> None:
    registrar = Registrar(password="another")

    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(5)
        await registration.stop()
        assert "0" not in [request.headers.get("Expires") for request in wire.requests]

    registering(play, registrar)


def test_empty_datagrams_keep_a_nat_open() -> None:
    async def play(wire: Wire, registration: Registration) -> None:
        await asyncio.sleep(200)
        crlf = [at for at, data, _ in wire.sent if data == b"\r\n\r\n"]
        assert 8 <= len(crlf) <= 11

    registering(play, Registrar())


def test_the_hosts_addresses_are_peers() -> None:
    async def run(wire: Wire, trunk: OneTrunk) -> None:
        registration = Registration(trunk, wire.endpoint)
        registration.start()
        await asyncio.sleep(1)
        assert set(trunk.addresses) == {"198.51.100.7", "198.51.100.8"}
        await registration.stop()

    on_a_wire(run, SipCredential(**PBX), Registrar(), hosts=["198.51.100.7", "198.51.100.8"])


# --- OPTIONS ------------------------------------------------------------------------------------------------------


def test_a_static_peer_is_asked_each_half_minute_and_three_misses_mark_it_down() -> None:
    far_end = Registrar()

    async def run(wire: Wire, trunk: OneTrunk) -> None:
        keepalive = standing_of(trunk, wire.endpoint)
        assert isinstance(keepalive, Keepalive)
        resolver, uri = wire.endpoint.resolver, keepalive.uri
        keepalive.start()
        await asyncio.sleep(95)
        assert [round(at) for at in wire.times("OPTIONS")] == [0, 0, 30, 30, 60, 60, 90, 90]
        assert str(keepalive.status) == "answers at udp:198.51.100.7:5060"
        wire.dead.add("198.51.100.7")
        await asyncio.sleep(75)
        assert [target.host for target in await resolver.targets(uri)] == ["198.51.100.7", "198.51.100.8"]
        await asyncio.sleep(60)
        assert [target.host for target in await resolver.targets(uri)] == ["198.51.100.8", "198.51.100.7"]
        await asyncio.sleep(600)
        for _ in range(60):
            await asyncio.sleep(1)
            assert (await resolver.targets(uri))[0].host == "198.51.100.8", "it stays down"
        assert keepalive.status.state == "up", "the other one answers"
        wire.dead.clear()
        await asyncio.sleep(45)
        assert [target.host for target in await resolver.targets(uri)] == ["198.51.100.7", "198.51.100.8"]
        await keepalive.stop()

    on_a_wire(run, SipCredential(**STATIC), far_end, hosts=["198.51.100.7", "198.51.100.8"])


def test_a_trunk_none_of_whose_targets_answers_is_down_and_comes_back() -> None:
    far_end = Registrar()
    far_end.silent = True

    async def run(wire: Wire, trunk: OneTrunk) -> None:
        keepalive = Keepalive(trunk, wire.endpoint)
        keepalive.start()
        await asyncio.sleep(30)
        assert keepalive.status.state == "starting"
        await asyncio.sleep(120)
        assert keepalive.status.state == "down"
        assert "check host, port and transport" in keepalive.status.problem
        far_end.silent, far_end.forced = False, [404] * 20
        await asyncio.sleep(45)
        assert keepalive.status.state == "up", "a refusal is an answer"
        await keepalive.stop()

    on_a_wire(run, SipCredential(**STATIC), far_end)


def test_a_trunk_without_a_host_has_nobody_to_ask() -> None:
    async def run(wire: Wire, trunk: OneTrunk) -> None:
        assert standing_of(trunk, wire.endpoint) is None
        assert await check_login(wire.endpoint, trunk.credential) == "pbx"

    on_a_wire(run, SipCredential(registers=False, peers=["198.51.100.7"]), Registrar())


# --- check_credential ---------------------------------------------------------------------------------------------


def checked(registrar: Registrar, **given: Any) -> str | Exception:
    outcome: list[str | Exception] = []

    async def run(wire: Wire, trunk: OneTrunk) -> None:
        try:
            outcome.append(await check_login(wire.endpoint, trunk.credential))
        except AnycarrierError as problem:
            outcome.append(problem)

    on_a_wire(run, SipCredential(**{**PBX, **given}), registrar)
    return outcome[0]


def test_checking_a_credential_logs_in_and_binds_nothing() -> None:
    registrar = Registrar()
    assert checked(registrar) == "201@198.51.100.7"
    assert registrar.queries == 1
    assert not registrar.bindings


REFUSALS = [
    ([401, 401], AuthenticationFailed, "refused the password of user '201'"),
    ([403], AuthenticationFailed, "refused user '201': Forbidden"), ([404], NotFound, "knows no user '201'"),
    ([429], RateLimited, "Wait a little"), ([500], ProviderUnavailable, "it answered Server Internal Error"),
]  # fmt: skip


@pytest.mark.parametrize(("statuses", "kind", "told"), REFUSALS)
def test_checking_a_credential_says_why_not(statuses: list[int], kind: type[Exception], told: str) -> None:
    registrar = Registrar()
    registrar.forced = statuses
    problem = checked(registrar)
    assert type(problem) is kind
    assert told in str(problem)
    assert "secret" not in str(problem)


def test_a_wrong_password_is_an_authentication_failure() -> None:
    problem = checked(Registrar(password="another"))
    assert isinstance(problem, AuthenticationFailed)
    assert "the registrar refused the password of user '201'. Check username and password" in str(problem)


def test_nobody_there_is_unavailable() -> None:
    registrar = Registrar()
    registrar.silent = True
    assert isinstance(checked(registrar), ProviderUnavailable)


def test_a_static_trunk_is_asked_by_options() -> None:
    far_end = Registrar()
    assert checked(far_end, registers=False, username=None, password=None) == "198.51.100.7"
    far_end.forced = [404]
    assert checked(far_end, registers=False, username=None, password=None) == "198.51.100.7"
    far_end.forced = [403]
    refused = checked(far_end, registers=False, username=None, password=None)
    assert isinstance(refused, PermissionDenied)
    assert "list the address" in str(refused)
    far_end.forced = [401]
    refused = checked(far_end, registers=False, username=None, password=None)
    assert isinstance(refused, AuthenticationFailed)
    assert "it wants a login. Give username and password" in str(refused)
