"""Media streams to the bot, over each carrier's sandbox, inbound and outbound."""

from __future__ import annotations

import random

import pytest

from anycarrier import EndReason
from contrib.twilio_front.front_house import CARRIERS, SID, VALIDATOR, front_house, stream, twiml, until

EVERY_CARRIER = pytest.mark.parametrize("carrier", CARRIERS)


@EVERY_CARRIER
@pytest.mark.parametrize("way", ["inbound", "outbound"])
async def test_a_bot_and_the_far_end_hear_each_other_byte_for_byte(carrier: str, way: str) -> None:
    async with front_house(carrier) as house:
        bot = house.bot
        parameter = '<Parameter name="first" value="Ada &amp; Bob"/>'
        bot.replies["/voice"] = twiml(stream(f"{bot.socket_url}/media?token=lost", parameter, name="mine"))
        far_end = await (house.ring() if way == "inbound" else house.dial())
        socket = await bot.socket()
        [asked] = bot.told("/voice")
        assert asked.genuine
        assert asked.params["AccountSid"] == SID
        assert asked.params["CallStatus"] == ("ringing" if way == "inbound" else "in-progress")
        assert asked.params["Direction"] == ("inbound" if way == "inbound" else "outbound-api")
        assert (asked.params["From"], asked.params["To"]) == (far_end.from_, far_end.to)
        assert socket.path == "/media"
        url = f"{bot.socket_url}/media"
        assert VALIDATOR.validate(url, {}, socket.headers["X-Twilio-Signature"])
        assert [frame["event"] for frame in socket.frames[:2]] == ["connected", "start"]
        start = socket.of("start")[0]
        assert start["start"]["callSid"] == asked.params["CallSid"]
        assert start["start"]["customParameters"] == {"first": "Ada & Bob"}
        rng = random.Random(7)
        spoken, played = rng.randbytes(160 * 25), rng.randbytes(160 * 25)
        await far_end.say(spoken)
        await socket.play(played)
        await socket.mark("end")
        await socket.wait_for("mark")
        await far_end.wait_heard(0.5)
        await until(lambda: spoken in socket.audio())
        assert far_end.heard == played
        media = socket.of("media")
        assert [int(frame["media"]["chunk"]) for frame in media] == list(range(1, len(media) + 1))
        numbers = [int(frame["sequenceNumber"]) for frame in socket.frames[1:]]
        assert numbers == list(range(1, len(numbers) + 1))
        await socket.connection.close()
        over = await house.over(far_end)
        assert over.reason is EndReason.AGENT_HANGUP
