"""``<Connect><ConversationRelay>`` in a bot's document, on whole calls."""

from __future__ import annotations

import asyncio

import pytest

from anycarrier import EndReason
from anycarrier.calls import TransferStatus
from anycarrier_twilio.carrier_side.twiml import Instructions
from contrib.twilio_front.fronted import DESK, open_fronted, twiml
from contrib.twilio_front.relay_bot import RelayBot, Talk, relay_bot
from fake_speech import SILENCE, SPEECH, FakeEngine

CARRIERS = ["telnyx", "acme", "twilio"]
UTTERANCE = SPEECH * 4000 + SILENCE * 8000


def relay(bot: RelayBot, **attributes: str) -> str:
    more = "".join(f' {name}="{value}"' for name, value in attributes.items())
    inside = '<Parameter name="case" value="7"/><Language code="es-ES" voice="lucia"/>'
    return f'<Connect action="/after"><ConversationRelay url="{bot.url}"{more}>{inside}</ConversationRelay></Connect>'


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("inbound", [True, False])
async def test_a_conversation_is_handed_over_with_its_data(carrier: str, inbound: bool) -> None:
    async def talk(talk: Talk) -> None:
        prompt = await talk.wait_for("prompt")
        await talk.say(f"you said {prompt['voicePrompt']}.")
        await talk.send("end", handoffData='{"reason": "human"}')

    engine = FakeEngine("i would like a human")
    async with relay_bot(talk) as bot, open_fronted(carrier, speech=engine, hosts=[bot.url.split("/")[2]]) as house:
        attributes = {"welcomeGreeting": "hello.", "voice": "Google.en-US-Chirp3-HD-Aoede", "ttsProvider": "Google"}
        house.bot.replies["/voice"] = twiml(relay(bot, **attributes))
        house.bot.replies["/after"] = twiml(f"<Dial>{DESK}</Dial>")
        far_end = await house.ring() if inbound else await house.dial()
        await far_end.wait_for("streaming")
        await asyncio.sleep(0.5)
        speaking = asyncio.ensure_future(far_end.say(UTTERANCE))
        [asked] = await house.bot.wait_told("/after")
        assert asked.genuine and asked.params["HandoffData"] == '{"reason": "human"}'
        assert (asked.params["SessionStatus"], asked.params["CallStatus"]) == ("ended", "in-progress")
        call = await house.exchange.wait_until(
            far_end.call_id, lambda c: c.transfer is TransferStatus.ANSWERED, 30
        )
        await house.until(lambda: not house.exchange.switchboard.sessions)
        assert far_end.state != "ended" and far_end.transferred_to == DESK and not call.ended
        speaking.cancel()  # it has no stream to speak into any more
    setup = bot.talks[0].received[0]
    assert setup["callSid"] == f"CA{call.reference}" == asked.params["CallSid"]
    assert (setup["direction"], setup["customParameters"]) == ("inbound" if inbound else "outbound", {"case": "7"})
    assert asked.params["SessionId"] == setup["sessionId"]
    assert engine.spoken == ["hello.", "you said i would like a human."]


async def test_a_caller_who_hangs_up_ends_the_session_and_its_action_is_told() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("one two three four five six seven eight nine ten eleven twelve.")
        await talk.closed.wait()

    async with relay_bot(talk) as bot:
        async with open_fronted("telnyx", speech=FakeEngine(), hosts=[bot.url.split("/")[2]]) as house:
            house.bot.replies["/voice"] = twiml(relay(bot))
            far_end = await house.ring()
            await far_end.wait_for("streaming")
            await house.until(lambda: bool(bot.talks) and bool(bot.talks[0].of("setup")))
            await far_end.hang_up()
            assert (await house.over(far_end)).reason is EndReason.USER_HANGUP
            [asked] = await house.bot.wait_told("/after")
            assert asked.params["SessionStatus"] == "completed" and "HandoffData" not in asked.params
            await bot.talks[0].closed.wait()
            assert bot.close_code == 1000 and len(house.bot.told("/after")) == 1


async def test_a_rest_update_takes_the_call_out_of_its_session() -> None:
    async def talk(talk: Talk) -> None:
        await talk.closed.wait()

    async with relay_bot(talk) as bot:
        async with open_fronted("telnyx", speech=FakeEngine(), hosts=[bot.url.split("/")[2]]) as house:
            house.bot.replies["/voice"] = twiml(relay(bot))
            far_end = await house.ring()
            await house.until(lambda: bool(bot.talks) and bool(bot.talks[0].of("setup")))
            house.front.calls[0].redirect(Instructions(twiml=twiml("<Hangup/>")))
            assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
            await bot.talks[0].closed.wait()
            assert house.bot.told("/after") == []


async def test_a_document_that_nobody_could_speak_is_refused_before_the_call_is_answered() -> None:
    class Silent(FakeEngine):
        abilities = frozenset({"listen", "speak"})

        def knows_language(self, ability: str, language: str) -> bool:
            return False

    async def talk(talk: Talk) -> None:
        return None

    async with relay_bot(talk) as bot:
        async with open_fronted("telnyx", speech=Silent(), hosts=[bot.url.split("/")[2]]) as house:
            house.bot.replies["/voice"] = twiml(relay(bot))
            house.front.speech.engines.lacks = lambda settings, needs: "no engine speaks it"  # type: ignore[method-assign]
            far_end = await house.ring()
            await house.over(far_end)
            assert bot.talks == [] and "streaming" not in [what for _, what in far_end.log]
