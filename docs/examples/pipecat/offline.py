"""Calls bot.py through the sandbox of each installed carrier, without an account or a model: ``python offline.py``.

The model follows a script, and the voice is one tone a word. A caller presses an order number, hears when the order
comes, and says goodbye by a key; a second one is put through to the desk. The exit code is 0 if all was as it should.
"""

import asyncio
import sys
import warnings

warnings.simplefilter("ignore", DeprecationWarning)  # of pipecat's own modules

from bot import DESK, run_bot  # noqa: E402
from loguru import logger  # noqa: E402
from pipecat.frames.frames import (  # noqa: E402
    FunctionCallFromLLM,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
)
from pipecat.processors.filters.identity_filter import IdentityFilter  # noqa: E402
from pipecat.services.llm_service import LLMService  # noqa: E402
from pipecat.services.settings import LLMSettings, TTSSettings  # noqa: E402
from pipecat.services.tts_service import TTSService  # noqa: E402

from anycarrier import EndReason, Exchange, MemoryNumberRegistry, Policy, plugins  # noqa: E402
from anycarrier.asgi import create_app  # noqa: E402
from anycarrier.calls import TransferStatus  # noqa: E402
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of  # noqa: E402
from anycarrier.testing.sandbox import sandbox_type  # noqa: E402
from anycarrier_pipecat import pipecat_agent  # noqa: E402

OURS, THEIRS = "+14155550100", "+12125550123"
SCRIPT = {
    "": "Hello, what is your order number?",
    "42#": "Order forty two comes tomorrow.",
    "9#": "end_call",
    "0#": "connect_to_a_person",
}


class ScriptedModel(LLMService):
    """Answers what was pressed by the script: with words, or by calling a tool."""

    def __init__(self):
        names = "model system_instruction temperature max_tokens top_p top_k frequency_penalty presence_penalty seed"
        unset = dict.fromkeys(names.split())
        off = {"filter_incomplete_user_turns": False, "user_turn_completion_config": None}
        super().__init__(settings=LLMSettings(**unset, **off))

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        said = [message["content"] for message in frame.context.get_messages() if message["role"] == "user"]
        answer = SCRIPT[said[-1].rpartition(" ")[2] if said else ""]
        await self.push_frame(LLMFullResponseStartFrame())
        if " " in answer:
            await self.push_frame(LLMTextFrame(answer))
        else:
            await self.run_function_calls([FunctionCallFromLLM(answer, "call-1", {}, frame.context)])
        await self.push_frame(LLMFullResponseEndFrame())


class ToneVoice(TTSService):
    """A quarter of a second for each word."""

    def __init__(self):
        super().__init__(push_stop_frames=True, settings=TTSSettings(model=None, voice=None, language=None))

    async def run_tts(self, text, context_id):
        if not self.audio_context_available(context_id):
            await self.create_audio_context(context_id)
        yield TTSStartedFrame(context_id=context_id)
        beep = bytes(byte for sample in range(self.sample_rate // 4) for byte in (0, 16 if sample % 16 < 8 else 240))
        for _ in text.split():
            yield TTSAudioRawFrame(beep, self.sample_rate, 1, context_id=context_id)


async def bot(transport):
    await run_bot(transport, stt=IdentityFilter(), llm=ScriptedModel(), tts=ToneVoice())


async def main(carrier):
    async with serve_sandbox(sandbox_type(carrier)) as sandbox:
        sandbox.add_number(OURS)
        port = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": sandbox.credential()},
            public_url=url_of(port),
            secret="of this program alone, and long enough",
            policy=Policy(allow=["US"]),
            agents=pipecat_agent(bot),
        )
        async with serve(create_app(exchange), port):
            sandbox.point_webhooks(exchange.switchboard.webhook_url(carrier, "main"))
            await exchange.assign(OURS, agent_id="orders", credential_id="main")

            caller = await sandbox.ring(OURS, THEIRS)
            await caller.wait_heard(1.0)
            await caller.press("42#")  # in the greeting, which stops
            await caller.wait_greeted()
            await caller.press("9#")
            call = await exchange.wait_for(caller.call_id, timeout=30)
            heard = caller.heard_seconds()
            print(f"{carrier}: heard {heard:.2f} s of 3.00, since the greeting was interrupted; {call.reason}")
            good = call.reason is EndReason.AGENT_HANGUP and 2.49 < heard < 2.9

            caller = await sandbox.ring(OURS, THEIRS)
            await caller.wait_greeted()
            await caller.press("0#")
            while not caller.transferred_to:
                await asyncio.sleep(0.05)
            answered = await exchange.wait_for_transfer(caller.call_id, timeout=30) is TransferStatus.ANSWERED
            await asyncio.sleep(1)  # the pipeline ends meanwhile
            print(f"{carrier}: put through to {caller.transferred_to}, and the caller is {caller.state}")
            good = good and answered and (caller.transferred_to, caller.state) == (DESK, "answered")
            await caller.hang_up()
            return good


logger.remove()
logger.add(sys.stderr, level="WARNING")
names = sys.argv[1:] or plugins.provider_names()
went_well = [asyncio.run(main(name)) for name in names]
print(f"one bot, {len(names)} carriers: {'all calls as they should be' if all(went_well) else 'NOT as it should be'}")
sys.exit(not all(went_well))
