"""Calls agent.py through the sandbox of each installed carrier, without an account or a model: ``python offline.py``.

The model is realtime_fake.py with a script. A caller speaks into the greeting, hears when the order comes, and the call
ends once that was heard; a second one presses 0 and is put through. Exit code 0 if all was as it should be.
"""

import asyncio
import os
import sys

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"

from realtime_fake import serve_realtime

from agent import DESK, MODEL, greet, runner, tell_key
from anycarrier import EndReason, Exchange, MemoryNumberRegistry, Policy, plugins
from anycarrier.asgi import create_app
from anycarrier.calls import TransferStatus
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import sandbox_type
from anycarrier_openai_realtime import openai_agent

OURS, THEIRS = "+14155550100", "+12125550123"
GREETING, ANSWER, ONE_MOMENT = (bytes(first + n % 16 for n in range(8000)) for first in (0x20, 0x40, 0x60))
VOICE, SILENCE = b"\x10\x90" * 2400, b"\x7e" * 4000
IN_BUFFER = 3 * 160
"""Bytes that may still be in the telephone's buffer, sent but not played, when the agent hangs up: three packets."""
PAUSE = 0.5
"""Seconds that a busy machine may stop this program for: the telephone plays on, and the news of it comes late."""


async def respond(model):
    """What the model says when it is asked to: it was told something, or a tool has answered."""
    said = model.got("conversation.item.create")[-1]["item"]
    if said["type"] == "function_call_output":
        await model.say(ANSWER, call=("end_call", {}))
    elif "key 0" in str(said):
        await model.say(ONE_MOMENT, call=("transfer_call", {"to": DESK}))
    else:
        await model.say(GREETING * 3)


async def hear(model):
    """What it does when the caller has spoken."""
    await model.say(b"", call=("order_status", {"number": 42}))


def was_said(caller, audio):
    """Whether it reached the caller without a gap."""
    return audio[:-IN_BUFFER] in caller.heard


def in_ear(caller, audio):
    """Seconds of it that the caller has heard."""
    return sum(map(caller.heard.count, set(audio))) / 8000


async def until(met):
    async with asyncio.timeout(30):
        while not met():
            await asyncio.sleep(0.02)


async def main(carrier):
    async with serve_sandbox(sandbox_type(carrier)) as sandbox, serve_realtime(
        on_response=respond, on_turn=hear
    ) as realtime:
        sandbox.add_number(OURS)
        port = listening()
        config = {**MODEL, "url": realtime.url, "api_key": "sk-offline"}
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": sandbox.credential()},
            public_url=url_of(port),
            secret="of this program alone, and long enough",
            policy=Policy(allow=["US"]),
            agents=openai_agent(runner, config, on_start=greet, on_digit=tell_key),
        )
        async with serve(create_app(exchange), port):
            sandbox.point_webhooks(exchange.switchboard.webhook_url(carrier, "main"))
            await exchange.assign(OURS, agent_id="orders", credential_id="main")

            caller = await sandbox.ring(OURS, THEIRS)
            await until(lambda: in_ear(caller, GREETING) > 1)
            await caller.say(VOICE + SILENCE)
            await until(lambda: caller.state == "ended")
            call = await exchange.wait_for(caller.call_id, timeout=30)
            model = realtime.conversations[0]
            [end] = model.truncated.values()
            heard = in_ear(caller, GREETING)
            print(f"{carrier}: heard {heard:.2f} s of the greeting, {end / 1000:.2f} s by the model's record;", end=" ")
            print(f"{in_ear(caller, ANSWER):.2f} s of 1.00 of the answer; {call.reason}")
            good = -0.06 < heard - end / 1000 < PAUSE and was_said(caller, ANSWER) and not model.refused
            good = good and call.reason is EndReason.AGENT_HANGUP

            caller = await sandbox.ring(OURS, THEIRS)
            await until(lambda: len(realtime.conversations) == 2)
            await until(lambda: in_ear(caller, GREETING) > 0.2)
            await caller.press("0")
            await until(lambda: caller.transferred_to)
            answered = await exchange.wait_for_transfer(caller.call_id, timeout=30) is TransferStatus.ANSWERED
            print(f"{carrier}: put through to {caller.transferred_to}, and the caller is {caller.state}")
            good = good and answered and (caller.transferred_to, caller.state) == (DESK, "answered")
            good = good and was_said(caller, ONE_MOMENT)
            await caller.hang_up()
            return good


names = sys.argv[1:] or plugins.provider_names()
went_well = [asyncio.run(main(name)) for name in names]
print(f"one agent, {len(names)} carriers: {'all calls as they should be' if all(went_well) else 'NOT as it should be'}")
sys.exit(not all(went_well))
