"""A bot written for ConversationRelay as an agent of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
from starlette.responses import Response

from anycarrier import EndReason
from anycarrier.agent import FinishedCall
from anycarrier.agent.conversation import AgentChannel, Conversation
from anycarrier.errors import AgentUnreachable
from anycarrier_twilio.carrier_side.twiml import Instructions
from anycarrier_twilio_front import RelayFront
from anycarrier_twilio_front.relay import Relay, RelayEnd
from anycarrier_twilio_front.relay_session import RelaySession
from contrib.twilio_front.fronted import ACCOUNT, TOKEN, genuine, twiml
from contrib.twilio_front.relay_bot import RelayBot, Talk, relay_bot
from fake_speech import Desk, Line, told
from sandbox_platform import Platform, platform


@dataclass
class Relayed:
    """One desk whose agent is the bot."""

    desk: Desk
    web: Platform
    bot: RelayBot
    front: RelayFront

    def answers(self, *verbs: str, path: str = "/voice") -> None:
        self.web.replies[path] = twiml(*verbs).replace("{bot}", self.bot.url)

    async def call(self, far_end: Callable[[Line], Awaitable[None]]) -> tuple[Line, FinishedCall]:
        return await self.desk.call(self.front, far_end)


@contextlib.asynccontextmanager
async def relayed(talk: Callable[[Talk], Awaitable[None]], *words: str) -> AsyncIterator[Relayed]:
    async with relay_bot(talk) as bot, platform(genuine) as web:
        hosts = [bot.url.split("/")[2]]
        front = RelayFront(account_sid=ACCOUNT, auth_token=TOKEN, voice_url=f"{web.url}/voice", hosts=hosts)
        yield Relayed(Desk(*words), web, bot, front)
        await front.aclose()


RELAY = '<Connect action="/after"><ConversationRelay url="{bot}" welcomeGreeting="hello."/></Connect>'


async def until_the_end(line: Line) -> None:
    await line.breathe(0.5)
    await line.utter()
    await line.until(lambda: line.session.ended)


async def answer(talk: Talk) -> None:
    prompt = await talk.wait_for("prompt")
    await talk.say(f"you said {prompt['voicePrompt']}.")
    await talk.send("end", handoffData="to a human")


async def test_a_relay_bot_talks_as_an_agent_and_its_transcript_is_kept() -> None:
    async with relayed(answer, "one two") as here:
        here.answers(RELAY)
        here.answers("<Say>goodbye.</Say>", path="/after")
        line, finished = await here.call(until_the_end)
        [asked] = here.web.told("/after")
    assert told(finished) == [
        ("local", "hello."), ("remote", "one two"), ("local", "you said one two."), ("local", "goodbye."),
    ]  # fmt: skip
    assert line.hang_ups == [EndReason.AGENT_HANGUP] and finished.reason is EndReason.AGENT_HANGUP
    assert asked.genuine and asked.params["HandoffData"] == "to a human"
    assert asked.params["CallSid"] == here.bot.talks[0].received[0]["callSid"] == f"CA{1:032x}"
    assert here.web.told("/voice")[0].genuine


async def test_after_the_session_the_conversation_is_the_calls_again(monkeypatch: pytest.MonkeyPatch) -> None:
    channels: list[AgentChannel] = []
    run = RelaySession.run

    async def watched(self: RelaySession, conversation: Conversation) -> RelayEnd:
        channels.append(conversation.channel)
        try:
            return await run(self, conversation)
        finally:
            channels.append(conversation.channel)

    monkeypatch.setattr(RelaySession, "run", watched)
    async with relayed(answer, "one two") as here:
        here.answers(RELAY)
        here.answers("<Say>goodbye.</Say>", path="/after")
        await here.call(until_the_end)
    before, after = channels
    assert after is before and not isinstance(after, Relay)


async def test_the_action_may_hand_the_caller_to_somebody() -> None:
    async with relayed(answer, "one two") as here:
        here.answers(RELAY)
        here.answers("<Dial>+13105550130</Dial>", path="/after")
        line, _ = await here.call(until_the_end)
    assert line.asked == [("transfer", "+13105550130")]


@pytest.mark.parametrize("broken", ["/voice", "/after"])
async def test_the_fallback_takes_over_where_a_document_fails(broken: str) -> None:
    async with relayed(answer, "one two") as here:
        fallback = Instructions(f"{here.web.url}/fallback")
        here.front.voice = replace(here.front.voice, fallback=fallback)
        here.answers(RELAY)
        here.web.replies[broken] = Response("no", status_code=500)
        here.answers("<Say>sorry.</Say>", path="/fallback")
        _, finished = await here.call(until_the_end)
        [asked] = here.web.told("/fallback")
    assert told(finished)[-1] == ("local", "sorry.") and finished.reason is EndReason.AGENT_HANGUP
    assert asked.genuine and asked.params["ErrorUrl"] == f"{here.web.url}{broken}"


async def test_a_caller_who_hangs_up_ends_the_bots_session_and_the_action_is_told() -> None:
    async def talk(talk: Talk) -> None:
        await talk.closed.wait()

    async def gone(line: Line) -> None:
        await line.breathe(0.5)
        line.end()

    async with relayed(talk) as here:
        here.answers(RELAY)
        _, finished = await here.call(gone)
        [asked] = await here.web.wait_told("/after")
        assert (asked.params["SessionStatus"], asked.params["CallStatus"]) == ("completed", "completed")
        assert finished.reason is EndReason.USER_HANGUP and here.bot.close_code == 1000


@pytest.mark.parametrize(
    "document",
    [
        "<Response>",
        twiml("<Gather/>"),
        twiml('<Connect><Stream url="{bot}"/></Connect>'),
        twiml("<Redirect>/voice</Redirect>"),
    ],
)
async def test_what_cannot_be_run_ends_the_call_with_a_reason(document: str) -> None:
    async def talk(talk: Talk) -> None:
        return None

    async with relayed(talk) as here:
        here.web.replies["/voice"] = document.replace("{bot}", here.bot.url)
        with pytest.raises(AgentUnreachable, match=r"12100|12200|11200"):
            await here.call(until_the_end)
    assert here.bot.talks == []
