"""Each call ends, with the right reason and within a stated time, whatever the model does; and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import websockets
from agents.realtime import RealtimeAgent, RealtimeRunner
from realtime_fake import Conversation, Realtime, serve_realtime

from anycarrier import EndReason, MediaSession
from anycarrier.errors import AgentUnreachable, ConfigurationError, ModelFailed
from anycarrier.testing.session import open_session
from anycarrier_openai_realtime import openai_agent, run_call
from frameworks.openai.doors import DOORS, Door, sdk
from frameworks.openai.sounds import ANSWER, LOUD, QUIET, SPEECH
from whole.conftest import House, until

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123"


async def talk(conversation: Conversation) -> None:
    await conversation.say(SPEECH)


@contextlib.asynccontextmanager
async def serve_tcp(serve: object) -> AsyncIterator[Realtime]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]
    realtime = Realtime()
    realtime.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield realtime
    finally:
        server.close()


def tasks() -> int:
    return len(asyncio.all_tasks())


async def all_gone(before: int) -> None:
    await until(lambda: tasks() <= before)


async def test_an_error_of_the_model_ends_the_call(house: House, door: Door) -> None:
    async def fail(conversation: Conversation) -> None:
        await conversation.error("session_expired", "Your session hit the maximum duration of 60 minutes.")

    async with serve_realtime(on_start=fail) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        assert (await house.over(far_end)).reason is EndReason.AGENT_ERROR
        await far_end.wait_for("ended")


@pytest.mark.parametrize("name", DOORS)
async def test_an_error_says_what_the_model_said_and_no_key(name: str) -> None:
    async def fail(conversation: Conversation) -> None:
        await conversation.error("invalid_api_key", f"Incorrect API key provided: {KEY}")

    async with serve_realtime(on_start=fail) as realtime, open_session() as (session, _):
        with pytest.raises(ModelFailed, match="invalid_api_key") as failed:
            await DOORS[name](realtime)(session)
    assert KEY not in str(failed.value)


async def test_a_harmless_race_does_not(door: Door) -> None:
    async def race(conversation: Conversation) -> None:
        await conversation.error("response_cancel_not_active", "Cancellation failed: no active response found")
        await conversation.say(SPEECH)

    async with serve_realtime(on_start=race) as realtime, open_session() as (session, far_end):
        running = asyncio.ensure_future(door(realtime)(session))
        await until(lambda: far_end.heard == SPEECH)
        await far_end.hang_up()
        await running


async def test_events_newer_than_the_sdk_do_not_end_the_call(door: Door) -> None:
    async def novelty(conversation: Conversation) -> None:
        await conversation.send("response.hologram.delta", response_id="r", delta="?")
        await conversation.say(SPEECH)

    async with serve_realtime(on_start=novelty) as realtime, open_session() as (session, far_end):
        running = asyncio.ensure_future(door(realtime)(session))
        await until(lambda: far_end.heard == SPEECH)
        await far_end.hang_up()
        await running


async def test_when_the_model_closes_all_it_said_is_heard_first(house: House, door: Door) -> None:
    async def leave(conversation: Conversation) -> None:
        await conversation.say(SPEECH)
        await conversation.close()

    async with serve_realtime(on_start=leave) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
        assert SPEECH in far_end.heard


async def test_when_the_model_closes_while_the_carrier_takes_nothing_all_is_sent_later(door: Door) -> None:
    async def leave(conversation: Conversation) -> None:
        await conversation.say(SPEECH, pause=0.05)
        await conversation.close()

    async with serve_realtime(on_start=leave) as realtime, open_session() as (session, far_end):
        line = session.stream.transport
        running = asyncio.ensure_future(door(realtime)(session))
        await far_end.wait_heard(0.1)
        line.paused = True  # type: ignore[attr-defined]
        await asyncio.sleep(3)
        assert not running.done() and far_end.heard != SPEECH
        line.paused = False  # type: ignore[attr-defined]
        session.stream.push.resumed()  # type: ignore[union-attr,misc]
        await running
        await until(lambda: far_end.heard == SPEECH)


async def test_a_model_that_closes_is_heard_to_the_end_although_the_caller_talks_on(door: Door) -> None:
    async def leave(conversation: Conversation) -> None:
        await conversation.say(SPEECH, pause=0.05)
        await conversation.close()

    async with serve_realtime(on_start=leave) as realtime, open_session() as (session, far_end):
        line = session.stream.transport
        running = asyncio.ensure_future(door(realtime)(session))
        talking = asyncio.ensure_future(far_end.say(QUIET * 20))
        await far_end.wait_heard(0.1)
        line.paused = True  # type: ignore[attr-defined]
        await asyncio.sleep(3)
        line.paused = False  # type: ignore[attr-defined]
        session.stream.push.resumed()  # type: ignore[union-attr,misc]
        await running
        talking.cancel()
        await until(lambda: far_end.heard == SPEECH)


async def test_a_model_that_closes_is_read_to_the_end_although_a_callback_is_slow() -> None:
    async def leave(conversation: Conversation) -> None:
        await conversation.say(SPEECH)
        await conversation.close()

    async def slow(event: object) -> None:
        await asyncio.sleep(0.1)

    async with serve_realtime(on_start=leave) as realtime, open_session() as (session, far_end):
        talking = asyncio.ensure_future(far_end.say(QUIET * 20))
        await DOORS["raw"](realtime, on_event=slow)(session)
        talking.cancel()
        await until(lambda: far_end.heard == SPEECH)


@pytest.mark.parametrize("name", DOORS)
async def test_an_error_is_told_although_the_caller_talks_into_a_connection_that_closes_slowly(name: str) -> None:
    async def fail(conversation: Conversation) -> None:
        await conversation.error("session_expired", "Your session hit the maximum duration of 60 minutes.")
        transport = conversation._socket.transport
        transport.pause_reading()
        asyncio.get_running_loop().call_later(0.5, transport.resume_reading)

    async with serve_realtime(on_start=fail) as realtime, open_session() as (session, far_end):
        talking = asyncio.ensure_future(far_end.say(QUIET * 20))
        with pytest.raises(ModelFailed, match="session_expired"):
            await DOORS[name](realtime)(session)
        talking.cancel()


async def test_a_start_that_does_not_return_ends_the_call_after_ten_seconds() -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    async with serve_realtime() as realtime, open_session() as (session, _):
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError, match=r"on_start has not returned within 10 s\. Do what"):
            await sdk(realtime, on_start=never)(session)
        assert asyncio.get_running_loop().time() - began == pytest.approx(10, abs=0.5)


async def test_a_connection_that_breaks_ends_the_call(house: House, door: Door) -> None:
    async def break_off(conversation: Conversation) -> None:
        await conversation.say(ANSWER)
        conversation.break_off()

    async with serve_realtime(on_start=break_off) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        assert (await house.over(far_end)).reason is EndReason.AGENT_ERROR


async def test_a_model_that_refuses_ends_the_call(house: House, door: Door) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with serve_tcp(refuse) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        assert (await house.over(far_end)).reason is EndReason.AGENT_ERROR


@contextlib.asynccontextmanager
async def silent() -> AsyncIterator[Realtime]:
    """A host that takes connections and says nothing."""
    held = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    async with serve_tcp(hold) as realtime:
        yield realtime
        for writer in held:
            writer.close()


async def test_a_model_that_hangs_at_connect_is_given_ten_seconds(house: House, door: Door) -> None:
    async with silent() as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        began = asyncio.get_running_loop().time()
        assert (await house.over(far_end)).reason is EndReason.AGENT_ERROR
        assert 9 < asyncio.get_running_loop().time() - began < 12


async def test_unreachable_names_the_host_and_the_status() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with serve_tcp(refuse) as realtime, open_session() as (session, _):
        with pytest.raises(AgentUnreachable, match=r"127\.0\.0\.1") as refused:
            await sdk(realtime)(session)
        assert (refused.value.status, refused.value.declined) == (401, True)
    async with silent() as realtime, open_session() as (session, _):
        with pytest.raises(AgentUnreachable, match="no connection in 10 s"):
            await sdk(realtime)(session)


@pytest.mark.parametrize("url", ["http://127.0.0.1/v1?api-key=secret", "ws:///v1?api-key=secret"])
async def test_a_url_of_no_websocket_is_not_quoted(url: str) -> None:
    wrong = Realtime()
    wrong.url = url
    async with open_session() as (session, _):
        with pytest.raises(AgentUnreachable, match=r"its url isn't a valid URI: \w+ isn't") as refused:
            await sdk(wrong)(session)
    assert "secret" not in str(refused.value)


async def test_a_caller_who_hangs_up_while_it_connects_does_not_wait(house: House) -> None:
    before = tasks()
    async with silent() as realtime:
        house.answer_with(sdk(realtime))
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        began = asyncio.get_running_loop().time()
        await far_end.hang_up()
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP
        await until(lambda: not house.exchange.switchboard.sessions)
        assert asyncio.get_running_loop().time() - began < 3
    await all_gone(before)


@contextlib.asynccontextmanager
async def never_reads() -> AsyncIterator[Realtime]:
    """A model that greets, then stands still: it reads nothing more and answers no ping."""
    realtime = Realtime()

    async def stall(socket: websockets.ServerConnection) -> None:
        await socket.send('{"type": "session.created", "event_id": "e", "session": {"type": "realtime"}}')
        socket.transport.pause_reading()
        await asyncio.sleep(3600)

    async with websockets.serve(stall, "127.0.0.1", 0, ping_interval=None, close_timeout=1) as server:
        realtime.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        yield realtime
        for connection in server.connections:
            connection.transport.abort()


@pytest.mark.parametrize("name", DOORS)
async def test_a_model_that_never_reads_is_found_out_by_the_keepalive(name: str) -> None:
    """20 s to a ping, 20 s for its answer, 10 s to close, by websockets' defaults; our raw socket has 1 s to close."""
    loop = asyncio.get_running_loop()
    async with never_reads() as realtime, open_session() as (session, far_end):
        speaking = asyncio.ensure_future(far_end.say(b"\x7e" * 8000 * 60))
        began = loop.time()
        with pytest.raises(websockets.ConnectionClosedError):
            await DOORS[name](realtime)(session)
        assert 39 < loop.time() - began < (54 if name == "sdk" else 44)
        speaking.cancel()


@pytest.mark.parametrize("name", DOORS)
async def test_a_caller_who_hangs_up_on_a_model_that_stands_still_is_let_go_in_three_seconds(name: str) -> None:
    loop, before = asyncio.get_running_loop(), tasks()
    async with never_reads() as realtime:
        async with open_session() as (session, far_end):
            running = asyncio.ensure_future(DOORS[name](realtime)(session))
            await asyncio.sleep(1)
            began = loop.time()
            await far_end.hang_up()
            await running
            assert loop.time() - began < 3
        await asyncio.sleep(15)  # the SDK's own task ends with websockets' limit for closing
    await all_gone(before)


async def test_the_caller_hangs_up_in_the_middle_of_a_sentence(house: House, door: Door) -> None:
    before = tasks()
    async with serve_realtime(on_start=talk) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        await far_end.wait_heard(0.5)
        began = asyncio.get_running_loop().time()
        await far_end.hang_up()
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP
        await until(lambda: not house.exchange.switchboard.sessions)
        assert asyncio.get_running_loop().time() - began < 3
    await all_gone(before + 2)  # the far end's own


@pytest.mark.parametrize("name", DOORS)
async def test_500_calls_leave_no_task(name: str) -> None:
    before = tasks()
    async with serve_realtime(on_start=talk) as realtime:
        serving = tasks()

        async def call(number: int) -> None:
            async with open_session() as (session, far_end):
                running = asyncio.ensure_future(DOORS[name](realtime)(session))
                await far_end.wait_heard(0.2 + number % 7 / 10)
                await far_end.hang_up()
                await running

        for first in range(0, 500, 25):
            await asyncio.gather(*(call(first + n) for n in range(25)))
        assert len(realtime.conversations) == 500
        await all_gone(serving)
    await all_gone(before)


async def test_a_cancelled_handler_leaves_no_task(door: Door) -> None:
    before = tasks()
    async with serve_realtime(on_start=talk) as realtime:
        serving = tasks()
        async with open_session() as (session, far_end):
            running = asyncio.ensure_future(door(realtime)(session))
            await far_end.wait_heard(0.5)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        await all_gone(serving)
    await all_gone(before)


@pytest.mark.parametrize("steps", range(8))
async def test_a_handler_cancelled_just_as_its_start_returns_ends(steps: int) -> None:
    async with serve_realtime() as realtime, open_session() as (session, _):

        async def start(_: object) -> None:
            running.cancel()
            for _ in range(steps):
                await asyncio.sleep(0)

        running = asyncio.ensure_future(sdk(realtime, on_start=start)(session))
        await asyncio.wait({running}, timeout=5)
        assert running.cancelled()


async def test_a_start_that_fails_ends_the_call(house: House) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async with serve_realtime() as realtime:
        house.answer_with(sdk(realtime, on_start=broken))
        far_end = await house.ring()
        assert (await house.over(far_end)).reason is EndReason.AGENT_ERROR


@pytest.mark.parametrize("name", DOORS)
async def test_a_callback_that_fails_is_logged_and_the_call_goes_on(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    callbacks = {"on_digit": broken, **({"on_event": broken} if name == "raw" else {})}
    async with serve_realtime(on_turn=talk) as realtime, open_session() as (session, far_end):
        running = asyncio.ensure_future(DOORS[name](realtime, **callbacks)(session))
        await realtime.conversation()
        await far_end.press("5")
        await until(lambda: "a bug" in caplog.text)
        await far_end.say(LOUD + QUIET)
        await until(lambda: far_end.heard == SPEECH)
        await far_end.hang_up()
        await running


async def test_a_runner_that_is_in_a_call_already_ends_the_second() -> None:
    async with serve_realtime(on_start=talk) as realtime:
        runner = RealtimeRunner(RealtimeAgent(name="one"))
        config = {"url": realtime.url, "api_key": "sk-fake"}

        async def handler(session: MediaSession) -> None:
            await run_call(session, runner, config)  # type: ignore[arg-type]

        async with open_session() as (first, far_end), open_session() as (second, _):
            running = asyncio.ensure_future(handler(first))
            await far_end.wait_heard(0.5)
            with pytest.raises(ConfigurationError, match="make one for each call"):
                await handler(second)
            await far_end.wait_heard(3.0)
            await far_end.hang_up()
            await running


async def test_a_factory_that_never_returns_fails_the_handler_after_ten_seconds() -> None:
    async def factory(session: MediaSession) -> RealtimeRunner:
        await asyncio.Event().wait()
        raise AssertionError

    async with open_session() as (session, _):
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await openai_agent(factory)(session)
        assert asyncio.get_running_loop().time() - began == pytest.approx(10, abs=0.1)


async def test_a_factory_that_makes_an_agent_instead_of_a_runner_says_what_to_make() -> None:
    async with open_session() as (session, _):
        with pytest.raises(ConfigurationError, match=r"returned RealtimeAgent.*lambda session: RealtimeRunner"):
            await openai_agent(lambda session: RealtimeAgent(name="one"))(session)


def test_an_agent_given_for_the_factory_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"^RealtimeAgent cannot.*lambda session: RealtimeRunner"):
        openai_agent(RealtimeAgent(name="one"))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"on_digit": 5}, {"on_start": "hi"}, {"on_event": print}, {"voice": "ash"}])
def test_options_that_cannot_be_are_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=rf"{next(iter(options))}.*(Give it a|on_start, on_digit, batch)"):
        openai_agent(lambda session: None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [0, -0.04])
async def test_a_batch_of_nothing_is_refused(batch: float) -> None:
    async with serve_realtime() as realtime, open_session() as (session, _):
        for door in DOORS.values():
            with pytest.raises(ConfigurationError, match="above 0"):
                await door(realtime, batch=batch)(session)


def test_the_raw_socket_needs_no_sdk() -> None:
    code = (
        "import sys, anycarrier_openai_realtime as a; a.run_raw; a.CALL_TOOLS; "
        "assert not {'agents', 'openai'} & set(sys.modules); a.run_call; assert 'agents' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
