"""What the exchange asks of a carrier: each argument arrives, and each answer is taken for what it says."""

import asyncio
from typing import Any

import httpx
import pytest

from anycarrier import (
    Call,
    CallStatus,
    EndReason,
    Exchange,
    MediaSession,
    MemoryNumberRegistry,
    Policy,
)
from anycarrier.dialling import CARRIER_GRACE
from anycarrier.errors import (
    AnycarrierError,
    ConfigurationError,
    DestinationNotAllowed,
    UnknownCall,
)
from core.conftest import CALLER, OURS, R1, R2, R7, R8, connect, dialled, echo, logged, post, ring, ticket_in
from fake_carriers import CommandProvider, FakeCredential, InlineProvider, TrunkProvider

ANOTHER = "+14155550102"


def made(**options: Any) -> Exchange:
    return Exchange(
        **{
            "registry": MemoryNumberRegistry(),
            "credentials": {"main": FakeCredential(), "other": FakeCredential(provider="command")},
            "public_url": "https://voice.example.com",
            "secret": "x" * 32,
            **options,
        }
    )


# --- an exchange -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("voice.example.com", "must be like"),
        ("ftp://voice.example.com", "must be like"),
        ("https://", "must be like"),
        ("https:///path", "must be like"),
        ("https://voice.example.com?a=1", "must be like"),
        ("https://voice.example.com#top", "must be like"),
        ("https://user@voice.example.com", "user or password"),
        ("https://:secret@voice.example.com", "user or password"),
        ("http://voice.example.com", "must be https"),
        ("http://10.0.0.1", "must be https"),
    ],
)
def test_a_public_url_that_carriers_could_not_use_is_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        made(public_url=url)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_loopback_needs_no_https_and_a_path_is_kept(host: str, fake_plugins: None) -> None:
    exchange = made(public_url=f"http://{host}:8080/voice/", agents=echo)
    assert exchange.switchboard.webhook_url("inline", "main") == f"http://{host}:8080/voice/inline/main"
    call = await dialled(exchange)
    [(_, request)] = logged("dial")
    assert request.stream.url.startswith(f"ws://{host}:8080/voice/media/")
    assert request.status_url == exchange.switchboard.status_url(call)
    await exchange.stop()


async def test_options_of_an_exchange_are_its_own(fake_plugins: None) -> None:
    one, two = made(time_limit=7.0, settle=3.0, owner="process-1"), made()
    board = one.switchboard
    assert (board.time_limit, one.call_watch.settle, board.owner) == (7.0, 3.0, "process-1")
    assert (two.switchboard.time_limit, two.started) == (None, False)
    assert two.switchboard.owner and two.switchboard.owner != made().switchboard.owner


async def test_agents_with_settings_are_asked_about_each_dial(exchange: Exchange) -> None:
    asked: list[tuple[str, str, object]] = []

    class Prepares(Staff):
        async def prepare_dial(self, agent_id: str, reference: str, variables: object) -> dict[str, object]:
            asked.append((agent_id, reference, variables))
            return {"time_limit": 40.0, "timeout": 12.0}

    exchange.switchboard.agents = Prepares()
    call = await dialled(exchange, reference=R1, variables={"name": "Sama"})
    assert asked == [("a", R1, {"name": "Sama"})]
    assert call.time_limit == 40.0
    await exchange.dial(from_=OURS, to=CALLER, reference=R2, time_limit=50.0, timeout=15.0)
    assert asked[1] == ("a", R2, {})
    assert [(request.timeout, request.time_limit) for _, request in logged("dial")] == [
        (12.0, 40.0 + CARRIER_GRACE), (15.0, 50.0 + CARRIER_GRACE),
    ]  # fmt: skip


# --- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", list(EndReason))
async def test_a_hang_up_keeps_its_reason_and_the_first_one_stands(exchange: Exchange, reason: EndReason) -> None:
    call = await dialled(exchange)
    await exchange.hang_up(call, reason)
    await exchange.hang_up(call, EndReason.SILENCE_TIMEOUT)
    known = await exchange.switchboard.calls.get(call.reference)
    assert known and known.intent is reason and logged("hang_up") == [("hang_up", "out-1")] * 2


async def test_a_hang_up_by_the_carriers_id_and_without_a_reason_is_an_explicit_stop(exchange: Exchange) -> None:
    await dialled(exchange)
    await exchange.hang_up("out-1")
    [call] = await exchange.calls_in_progress()
    assert call.intent is EndReason.API_STOP


@pytest.mark.parametrize(("caller_id", "shown"), [(None, OURS), ("+14155550177", "+14155550177")])
async def test_a_transfer_shows_our_number_unless_told_otherwise(
    exchange: Exchange, asked: dict[str, tuple[Any, ...]], caller_id: str | None, shown: str
) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange)
    [call] = await exchange.calls_in_progress()
    headers = {"X-Order": "7"}
    await exchange.transfer("in-1", "+13105550130", caller_id=caller_id, headers=headers)
    assert asked["transfer"] == (
        "in-1", "+13105550130", ("caller_id", shown), ("status_url", exchange.switchboard.status_url(call)),
        ("headers", headers),
    )  # fmt: skip
    asked.clear()
    with pytest.raises(ConfigurationError, match="may not be sent"):
        await exchange.transfer("in-1", "+13105550130", headers={"From": "me"})
    assert not asked


async def test_a_guard_may_forbid_a_transfer_the_policy_allows(
    exchange: Exchange, asked: dict[str, tuple[Any, ...]]
) -> None:
    call = await dialled(exchange)
    guarded: list[tuple[str, str]] = []

    async def guard(call: Call, to: str) -> None:
        guarded.append((call.reference, to))
        raise AnycarrierError("not to that one")

    exchange.switchboard.transfer_guard = guard
    with pytest.raises(AnycarrierError, match="not to that one"):
        await exchange.transfer(call, "+13105550130")
    known = await exchange.switchboard.calls.get(call.reference)
    assert guarded == [(call.reference, "+13105550130")] and "transfer" not in asked
    assert known and known.transfer is None


async def test_recording_is_asked_for_and_stopped_by_id(exchange: Exchange, asked: dict[str, tuple[Any, ...]]) -> None:
    call = await dialled(exchange)
    assert await exchange.start_recording(call) == "rec-1"
    assert asked["start_recording"] == ("out-1", ("status_url", exchange.switchboard.status_url(call)))
    await exchange.stop_recording(call, "rec-1")
    assert asked["stop_recording"] == ("out-1", "rec-1")


async def test_a_call_that_is_fetched_moves_on_and_wakes_who_waits(
    exchange: Exchange, asked: dict[str, tuple[Any, ...]]
) -> None:
    call = await dialled(exchange)
    waiting = asyncio.ensure_future(exchange.wait_for(call, timeout=2))
    await asyncio.sleep(0)
    fetched = await exchange.fetch_call(call)
    assert asked["fetch_call"] == ("out-1",)
    assert (fetched.reason, fetched.reference) == (EndReason.BUSY, call.reference) and fetched.ended_at is not None
    assert await waiting == fetched


@pytest.mark.parametrize("talks", [True, False])
async def test_keys_are_a_command_where_the_carrier_has_one_or_the_audio_is_not_ours(
    exchange: Exchange, talks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed: list[tuple[str, str]] = []

    async def press(self: object, call_id: str, digits: str) -> None:
        pressed.append((call_id, digits))

    if talks:  # a command exists, and a stream too

        async def agent(session: MediaSession) -> None:
            await session.send_digits("5#")

        exchange.switchboard.agents = agent
        await exchange.assign(OURS, agent_id="a", credential_id="other")
        await ring(exchange, credential="other", provider="command")
        async with asyncio.timeout(2):
            while not (answers := logged("answer", CommandProvider)):
                await asyncio.sleep(0)
        transport, serving = await connect(exchange, answers[0][2].url.rpartition("/")[2], "in-1")
        await asyncio.wait_for(serving, 2)
        assert logged("digits", CommandProvider) == [("digits", "in-1", "5#")]
        assert not any(message["event"] == "media" for message in transport.sent)
    else:  # no command that we know of, and no stream here: the carrier says what it thinks of it
        monkeypatch.setattr(TrunkProvider, "send_digits", press)
        monkeypatch.setattr(TrunkProvider, "configure_number", InlineProvider.configure_number)
        call = await dialled(exchange, "trunk")
        await exchange.send_digits(call, "5#")
        assert pressed == [("out-1", "5#")]


async def test_hanging_up_twice_or_after_the_end_is_success(exchange: Exchange) -> None:
    call = await dialled(exchange)
    await exchange.hang_up(call)
    await post(exchange, event="status", id="out-1", status="ended", ref=call.reference)
    await exchange.hang_up(call)
    assert sum(entry[0] == "hang_up" for entry in InlineProvider.log) == 1
    with pytest.raises(UnknownCall, match="never-heard-of"):
        await exchange.hang_up("never-heard-of")


async def test_a_transfer_is_judged_from_our_number_whoever_calls(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
    exchange.switchboard.policy = Policy()  # a number's own country
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, **{"from": "+442071838750"})
    with pytest.raises(DestinationNotAllowed):
        await exchange.transfer("in-1", "+442079460188")
    await exchange.transfer("in-1", "+12125550199")


async def test_transfer_checks_the_destination_and_is_the_reason_for_the_end(exchange: Exchange) -> None:
    call = await dialled(exchange)
    with pytest.raises(DestinationNotAllowed):
        await exchange.transfer(call, "+19005550100")
    await exchange.transfer(call, "+13105550100")
    await post(exchange, event="status", id="out-1", status="answered", ref=call.reference, event_id="1")
    await post(exchange, event="status", id="out-1", status="ended", ref=call.reference, event_id="2")
    assert (await exchange.wait_for(call)).reason is EndReason.TRANSFERRED


# --- waiting and knowing ---------------------------------------------------------------------------------------------


async def test_waiting_ends_with_the_status_or_one_beyond_or_with_its_time(exchange: Exchange) -> None:
    call = await dialled(exchange)
    with pytest.raises(TimeoutError):
        await exchange.wait_for(call, CallStatus.RINGING, timeout=0.01)
    waiting = [
        asyncio.ensure_future(exchange.wait_for(call, status, timeout=2))
        for status in (CallStatus.RINGING, CallStatus.ANSWERED, CallStatus.ENDED)
    ]
    await asyncio.sleep(0)
    await post(exchange, event="status", id="out-1", status="answered", event_id="1")
    assert [(await one).status for one in waiting[:2]] == [CallStatus.ANSWERED] * 2
    assert not waiting[2].done()
    await post(exchange, event="status", id="out-1", status="ended", reason="busy", event_id="2")
    assert (await waiting[2]).ended
    assert (await exchange.wait_for("out-1", CallStatus.RINGING)).ended, "already beyond"


async def test_who_no_longer_waits_is_not_asked_and_leaves_nothing_behind(exchange: Exchange) -> None:
    call = await dialled(exchange)
    asked: list[CallStatus] = []

    def met(now: Call) -> bool:
        asked.append(now.status)
        return False

    with pytest.raises(TimeoutError):
        await exchange.wait_until(call, met, 0.01)
    await exchange.switchboard.end_locally(call, EndReason.NO_ANSWER)
    assert asked == [call.status] and not exchange.switchboard._waiters


async def test_a_call_the_book_has_lost_is_taken_up_again_if_it_says_whose_it_is(exchange: Exchange) -> None:
    call = Call(
        id="kept-elsewhere", provider="inline", direction="outbound", from_=OURS, to=CALLER,  # type: ignore[arg-type]
        status=CallStatus.ANSWERED, reference=R7, credential_id="main",
    )  # fmt: skip
    with pytest.raises(TimeoutError):
        await exchange.wait_for(call, timeout=0.01)
    assert exchange.call_watch.watches(R7)
    await exchange.hang_up(call)
    assert logged("hang_up") == [("hang_up", "kept-elsewhere")]
    await exchange.switchboard.end_locally(call, EndReason.UNKNOWN)
    await exchange.hang_up(call.model_copy(update={"reference": ""}))  # known by the carrier's id, and over
    assert len(logged("hang_up")) == 1
    with pytest.raises(UnknownCall):
        await exchange.hang_up(call.model_copy(update={"reference": R8, "id": "x", "credential_id": ""}))


async def test_the_end_of_a_call_ends_its_session(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    _, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await exchange.wait_for("in-1", CallStatus.ANSWERED)
    [session] = exchange.switchboard.sessions.values()
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup", event_id="2")
    await asyncio.wait_for(serving, 2)
    assert session.stop_reason == "call ended" and session.call.ended


# --- coming and going ------------------------------------------------------------------------------------------------


class Staff:
    """Agents with something to open."""

    def __init__(self) -> None:
        self.did: list[object] = []
        self.failure: Exception | None = None

    async def __call__(self, session: MediaSession) -> None:
        """Not called here."""

    async def open(self, exchange: Exchange) -> None:
        self.did.append(exchange)
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> None:
        self.did.append("closed")


async def test_starting_twice_opens_once_and_a_failed_start_can_be_tried_again(exchange: Exchange) -> None:
    exchange.switchboard.agents = staff = Staff()
    staff.failure = ValueError("no model")
    with pytest.raises(ValueError, match="no model"):
        await exchange.start()
    assert not exchange.started
    staff.failure = None
    await exchange.start()
    await exchange.start()
    assert exchange.started and staff.did == [exchange.switchboard, exchange.switchboard]
    assert len(logged("listener", TrunkProvider)) == 1
    await exchange.start_listener("trunk")
    assert len(logged("listener", TrunkProvider)) == 1
    await exchange.stop()
    assert not exchange.started and staff.did[-1] == "closed"
    await exchange.start()
    assert staff.did[-1] is exchange.switchboard and len(logged("listener", TrunkProvider)) == 2


async def test_stopping_closes_the_sessions_the_providers_and_only_our_own_client(
    fake_plugins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[InlineProvider] = []

    async def aclose(self: InlineProvider) -> None:
        closed.append(self)

    monkeypatch.setattr(InlineProvider, "aclose", aclose)
    theirs = httpx.AsyncClient()
    for given in (None, theirs):
        exchange = made(agents=echo, http=given)
        await exchange.assign(OURS, agent_id="a", credential_id="main")
        transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
        await exchange.wait_for("in-1", CallStatus.ANSWERED)
        one, two = await exchange.switchboard.provider("main"), await exchange.switchboard.provider("other")
        assert one.http is two.http and (given is None or one.http is theirs)
        client = one.http
        await exchange.stop()
        await asyncio.wait_for(serving, 2)
        assert transport.closed == 1001
        assert client.is_closed is (given is None) and closed == [one, two]
        assert await exchange.switchboard.provider("main") is not one, "one that is closed is used no more"
        await exchange.stop()
        closed.clear()
        InlineProvider.log.clear()
    await theirs.aclose()


async def test_stopping_cancels_what_runs_beside_requests_and_the_watch(exchange: Exchange) -> None:
    call = await dialled(exchange)
    assert exchange.call_watch.watches(call.reference)
    task = exchange.switchboard.spawn(asyncio.sleep(3600), "wait")
    await asyncio.wait_for(exchange.stop(), 2)
    assert task.cancelled() and not exchange.call_watch.watches(call.reference)
    await exchange.start()
    await exchange.hang_up(call)
    assert exchange.call_watch.watches(call.reference), "the watch looks on after a new start"


async def test_what_fails_beside_a_request_is_logged_with_what_it_was(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(failure: Exception) -> None:
        raise failure

    for failure in (ValueError("a bug"), KeyError()):
        await asyncio.wait({exchange.switchboard.spawn(fails(failure), "tidy up")})
    await asyncio.sleep(0)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["could not tidy up: a bug", "could not tidy up: KeyError"]
    assert all(record.exc_info for record in caplog.records), "with the traceback"
    assert not exchange.switchboard._tasks, "nothing is kept of what is done"
