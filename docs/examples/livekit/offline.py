"""``agent.py`` on a sandbox, without an account or a model: a greeting, a tool, a goodbye, and the agent hangs up.

Models of a few lines stand in for the real ones. Nobody listens: the caller's words are put into the session as text.
"""

import asyncio
import json
import math
import sys
from array import array
from typing import Any

from livekit.agents import AgentSession, llm, tts
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

import agent
from anycarrier.plugins import get_provider, provider_names
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import sandbox_type

OURS, THEIRS = "+14155550100", "+12125550123"
SCRIPT = [("opening_hours", {}), "Monday to Saturday", ("end_call", {}), "Goodbye"]
WORD, RATE = 0.25, 24000


class Script(llm.LLM):
    """Answers with the next line of the script: words, or a tool."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = list(SCRIPT)

    def chat(self, *, chat_ctx: llm.ChatContext, tools: Any = None, **more: Any) -> llm.LLMStream:
        return Line(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=DEFAULT_API_CONNECT_OPTIONS)


class Line(llm.LLMStream):
    async def _run(self) -> None:
        line = self._llm.lines.pop(0)
        delta = llm.ChoiceDelta(role="assistant", content=line if isinstance(line, str) else None)
        if not isinstance(line, str):
            name, arguments = line
            delta.tool_calls = [llm.FunctionToolCall(name=name, arguments=json.dumps(arguments), call_id=name)]
        self._event_ch.send_nowait(llm.ChatChunk(id="line", delta=delta))


class Hum(tts.TTS):
    """Hums a quarter of a second for each word."""

    def __init__(self) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=RATE, num_channels=1)

    def synthesize(self, text: str, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> tts.ChunkedStream:
        return Humming(tts=self, input_text=text, conn_options=conn_options)


class Humming(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(request_id="hum", sample_rate=RATE, num_channels=1, mime_type="audio/pcm")
        word = array("h", [round(8000 * math.sin(n / 20)) for n in range(round(WORD * RATE))]).tobytes()
        output_emitter.push(word * len(self._input_text.split()))
        output_emitter.flush()


class Spied(AgentSession):
    """Kept, so that the caller's words can be put into it."""

    made: "list[Spied]" = []

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.made.append(self)


async def call(carrier: str) -> bool:
    """One call; whether it went as it should."""
    async with serve_sandbox(sandbox_type(carrier)) as sandbox:
        sandbox.add_number(OURS)
        port = listening()
        exchange = agent.make_exchange(sandbox.credential(), url_of(port))
        sandbox.point_webhooks(exchange.switchboard.webhook_url(carrier, "main"))  # as typed in some carriers' consoles
        async with serve(agent.make_app(exchange, OURS), port):
            caller = await sandbox.ring(OURS, THEIRS)
            await caller.wait_heard(10 * WORD)
            session = Spied.made[-1]
            session.generate_reply(user_input="When are you open?")
            await caller.wait_heard(13 * WORD)
            session.generate_reply(user_input="Thank you, goodbye.")
            await caller.wait_for("ended")
    said = [item.text_content for item in session.history.messages() if item.role == "assistant"]
    print(f"{carrier}: heard {caller.heard_seconds():.2f} s, then the agent hung up: {' | '.join(said)}")
    packets = len(said) * 0.02  # RTP sends whole ones: the end of each sentence is filled up
    return len(said) == 3 and abs(caller.heard_seconds() - 14 * WORD) < 0.1 + packets


async def main() -> bool:
    """On every carrier that is installed and has a sandbox."""
    agent.AgentSession = Spied
    agent.models = lambda: {"llm": Script(), "tts": Hum(), "vad": None, "turn_handling": {"turn_detection": "manual"}}
    carriers = [name for name in provider_names() if get_provider(name).sandbox]
    done = [await call(carrier) for carrier in carriers]
    print(f"a LiveKit agent on {len(carriers)} carriers, without a LiveKit server")
    return all(done) and len(done) > 0


if __name__ == "__main__":
    sys.exit(not asyncio.run(main()))
