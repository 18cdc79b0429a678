"""What adapters for frameworks share: agents by a factory, callbacks that fail, transfers told to a model."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from contextvars import ContextVar
from typing import Any

import pytest

from anycarrier import AudioFormat, MediaSession
from anycarrier.agent import RawAgent, call_back, factory_agent, try_transfer, with_options
from anycarrier.errors import (
    ConfigurationError,
    DestinationNotAllowed,
    NumberRejected,
    ProviderUnavailable,
    RequestRejected,
    StoreUnavailable,
)
from anycarrier.testing.session import open_session

INSTEAD = "Give one: bot_agent(lambda session: Bot())."


class Bot:
    pass


class Line:
    pass


def agent_of(factory: Any, run: Any, **options: Any) -> RawAgent:
    return factory_agent(factory, run, **{"makes": Bot, "instead": INSTEAD, **options})


async def nothing(session: MediaSession, *made: Any) -> None:
    raise AssertionError("not to be run")


@pytest.mark.parametrize("waits", [False, True])
async def test_each_call_is_run_with_what_is_made_for_it(waits: bool) -> None:
    ran: list[tuple[Any, ...]] = []

    async def run(session: MediaSession, *made: Any) -> None:
        ran.append((session, *made))

    async def slowly(session: MediaSession) -> Bot:
        """A bot."""
        await asyncio.sleep(9)
        return Bot()

    agent = agent_of(slowly if waits else lambda session: Bot(), run, audio=AudioFormat("PCM16", 16000))
    async with open_session() as (first, _), open_session() as (second, _):
        await agent(first)
        await agent(second)
        assert [session for session, _ in ran] == [first, second]
        assert first.format == AudioFormat("PCM16", 16000)
    assert all(isinstance(bot, Bot) for _, bot in ran) and ran[0][1] is not ran[1][1]
    assert not waits or agent.__doc__ == "A bot."


async def test_what_a_factory_sets_in_its_context_its_agent_sees() -> None:
    of_call: ContextVar[str] = ContextVar("of_call", default="")

    async def factory(session: MediaSession) -> Bot:
        await asyncio.sleep(0)
        of_call.set(session.call.reference)
        return Bot()

    async def run(session: MediaSession, bot: Bot) -> None:
        assert of_call.get() == session.call.reference

    async with open_session() as (session, _):
        await agent_of(factory, run)(session)


def test_what_a_factory_has_set_on_it_is_not_the_agents() -> None:
    class Factory:
        def __init__(self) -> None:
            self.needs = ("speak",)

        def __call__(self, session: MediaSession) -> Bot:
            return Bot()

    assert agent_of(Factory(), nothing).needs == ()


async def test_several_are_arguments_of_run() -> None:
    async def run(session: MediaSession, bot: Bot, line: Line) -> None:
        ran.append((bot, line))

    ran: list[Any] = []
    async with open_session() as (session, _):
        await agent_of(lambda session: (Bot(), Line()), run, makes=(Bot, Line))(session)
    assert len(ran) == 1


@pytest.mark.parametrize(("given", "named"), [(None, "None"), (Bot(), "Bot"), ((Bot(), None), r"\(Bot, None\)")])
def test_what_cannot_be_called_is_refused_and_the_next_step_is_said(given: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{named} cannot be called .*{INSTEAD[:10]}"):
        agent_of(given, nothing)


@pytest.mark.parametrize("makes", [Bot, (Bot, Line), (Line, Bot)])
def test_what_is_to_be_made_is_no_factory(makes: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^Bot is what the factory makes.*{INSTEAD[:10]}"):
        agent_of(Bot, nothing, makes=makes)


class Desk:
    def __init__(self, session: MediaSession, *, name: str = "") -> None: ...

    def without(self) -> Bot:
        return Bot()

    def bot(self, session: MediaSession) -> Bot:
        return Bot()


def two(session: MediaSession, name: str) -> Bot:
    return Bot()


@functools.wraps(Bot)
def decorated(session: MediaSession) -> Bot:
    return Bot()


@pytest.mark.parametrize("factory", [Bot, lambda: Bot(), two, lambda *, session: Bot(), Desk(None).without])
def test_a_factory_that_takes_no_session_is_refused(factory: Any) -> None:
    name = re.escape(factory.__qualname__)
    with pytest.raises(ConfigurationError, match=f"^{name} cannot be called with one argument, .*{INSTEAD[:10]}"):
        agent_of(factory, nothing, makes=Line)


@pytest.mark.parametrize(
    "factory", [Desk, Desk(None).bot, decorated, functools.partial(two, name=""), lambda *given: Bot(), dict, type]
)
def test_a_factory_that_takes_a_session_or_may_is_not_refused(factory: Any) -> None:
    assert agent_of(factory, nothing)


@pytest.mark.parametrize(
    ("makes", "made", "told"),
    [
        (Bot, None, "returned None, where Bot is wanted. Give one"),
        (Bot, Line(), "returned Line, where Bot is wanted. Give one"),
        (Bot, (Bot(), Line()), "returned (Bot, Line), where Bot is wanted. Give one"),
        ((Bot, Line), Bot(), "returned Bot, where Bot, Line is wanted. Give one"),
        ((Bot, Line), (Bot(),), "returned (Bot), where Bot, Line is wanted. Give one"),
        ((Bot, Line), (Bot(), None), "returned (Bot, None), where Bot, Line is wanted. Give one"),
        ((Bot, Line), [Bot(), Line()], "returned list, where Bot, Line is wanted. Give one"),
    ],
)
async def test_what_a_factory_should_not_return_is_told_with_what_it_should(makes: Any, made: Any, told: str) -> None:
    def factory(session: MediaSession) -> Any:
        return made

    async with open_session() as (session, _):
        with pytest.raises(ConfigurationError) as refused:
            await agent_of(factory, nothing, makes=makes)(session)
    assert told in str(refused.value) and "factory" in str(refused.value)


async def test_a_factory_has_ten_seconds() -> None:
    async def never(session: MediaSession) -> Bot:
        await asyncio.sleep(3600)
        return Bot()

    loop = asyncio.get_running_loop()
    async with open_session() as (session, _):
        for options, seconds in (({}, 10), ({"start_timeout": 3}, 3)):
            began = loop.time()
            with pytest.raises(TimeoutError, match=f"never has not returned within {seconds} s. Do what .* before "):
                await agent_of(never, nothing, **options)(session)
            assert loop.time() - began == pytest.approx(seconds, abs=0.01)


async def test_a_timeout_of_the_factory_itself_is_not_ours() -> None:
    async def factory(session: MediaSession) -> Bot:
        raise TimeoutError("its database")

    async with open_session() as (session, _):
        with pytest.raises(TimeoutError, match="its database"):
            await agent_of(factory, nothing)(session)


# --- callbacks -------------------------------------------------------------------------------------------------------


async def test_a_callback_that_fails_is_logged_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    got: list[str] = []

    def broken(digit: str) -> None:
        raise RuntimeError(f"no {digit}")

    async def broken_later(digit: str) -> None:
        await asyncio.sleep(0)
        raise RuntimeError(f"never {digit}")

    async def good(digit: str) -> None:
        await asyncio.sleep(1)
        got.append(digit)

    with caplog.at_level(logging.ERROR, "anycarrier"):
        for callback in (None, broken, broken_later, got.append, good):
            await call_back(callback, "1")
    assert got == ["1", "1"]
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["no 1", "never 1"]


async def test_a_callback_that_is_cancelled_is() -> None:
    waiting = asyncio.ensure_future(call_back(asyncio.sleep, 3600))
    await asyncio.sleep(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_callback_that_awaits_what_was_cancelled_fails_and_does_not_end_the_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = asyncio.ensure_future(asyncio.sleep(3600))
    work.cancel()

    async def broken() -> None:
        await work

    await call_back(broken)
    assert "its call goes on" in caplog.text


# --- options ---------------------------------------------------------------------------------------------------------


async def run_with(session: MediaSession, made: Bot, *, batch: float = 1.0, on_digit: Any = None) -> None:
    bots.append((made, batch, on_digit))


bots: list[Any] = []


async def test_options_are_those_of_every_call() -> None:
    run = with_options(run_with, batch=2.0, on_digit=print)
    async with open_session() as (session, _):
        await agent_of(lambda session: Bot(), run)(session)
    assert bots.pop()[1:] == (2.0, print)
    assert with_options(run_with, on_digit=None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_key": print}, "no option 'on_key': leave it out, or give one of batch, on_digit"),
        ({"made": Bot()}, "no option 'made'"),
        ({"on_digit": 5}, "on_digit is of type int, which cannot be called. Give it a function"),
    ],
)
def test_an_option_that_there_is_not_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        with_options(run_with, **options)


# --- transfers -------------------------------------------------------------------------------------------------------


async def test_a_transfer_waits_until_all_was_heard_and_for_its_outcome() -> None:
    async with open_session() as (session, far_end):
        await session.send_audio(b"\x20" * 8000)
        transferring = asyncio.ensure_future(try_transfer(session, "+13105550130"))
        await far_end.wait_heard(0.9)
        assert far_end.control.transfers == []
        await asyncio.sleep(1)
        assert far_end.control.transfers == ["+13105550130"] and not transferring.done()
        far_end.answer_transfer()
        assert await transferring == ""


@pytest.mark.parametrize(
    ("outcome", "told"), [("fail_transfer", "nobody took the call"), (None, "still rings"), ("hang_up", "")]
)
async def test_why_nobody_took_it_is_said_in_words(outcome: str | None, told: str) -> None:
    async with open_session() as (session, far_end):
        transferring = asyncio.ensure_future(try_transfer(session, "+13105550130", timeout=5))
        await asyncio.sleep(1)
        if outcome is not None and asyncio.iscoroutine(result := getattr(far_end, outcome)()):
            await result
        said = await transferring
        assert told in said and bool(said) is bool(told)


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (ValueError("sales is closed"), "sales is closed"),
        (
            DestinationNotAllowed("+448715550123", "not among those", "Add 'GB' to Policy"),
            "not be called: not among those",
        ),
        (RequestRejected("acme", "transfer", "no"), "not possible on this call"),
        (NumberRejected("acme", "transfer", "no"), "does not accept this number"),
        (ProviderUnavailable("acme", "transfer", sent=False), "not possible right now"),
        (ProviderUnavailable("acme", "transfer"), "not known whether it was made"),
        (StoreUnavailable("db-1 of the cluster"), "not possible right now"),
        (ConfigurationError("give Exchange(...) a store"), "not possible on this call"),
    ],
)
async def test_a_refusal_is_said_in_words_for_a_model_and_its_advice_is_logged(
    refusal: Exception, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(to: str) -> None:
        raise refusal

    async with open_session() as (session, _):
        monkeypatch.setattr(session, "transfer", refuse)
        told = await try_transfer(session, "+13105550130")
        assert told.startswith("The transfer was refused: ") and said in told
        assert not re.search("Policy|console|wait_for_transfer|status page|cluster|Exchange|acme", told)
        assert f"{session.call.reference} was not transferred: {refusal}" in caplog.text


@pytest.mark.parametrize("target", [None, 5, "", "12", "sip:", ["+13105550130"]])
async def test_what_is_no_target_is_said_in_words(target: Any) -> None:
    async with open_session() as (session, far_end):
        told = await try_transfer(session, target)
        assert told.startswith("The transfer was refused: ") and re.search("is not an? (E.164|SIP) ", told)
        assert far_end.control.transfers == []
