"""Models that need no network: a language model with a script, a voice of even words, an ear that hears one text."""

from __future__ import annotations

import json
from typing import Any

from livekit.agents import APIConnectOptions, llm, stt, tts
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

WORD = 0.3
"""Seconds that each word takes."""


class ScriptedLLM(llm.LLM):
    """Each turn says the next of ``script``: a text, or a tool's name with its arguments and perhaps a text before it;
    or raises ``failure``."""

    def __init__(self, *script: str | tuple[Any, ...]) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.script = list(script)
        self.asked: list[llm.ChatContext] = []

    def chat(self, *, chat_ctx: llm.ChatContext, tools: list[llm.Tool] | None = None, **more: Any) -> llm.LLMStream:
        self.asked.append(chat_ctx.copy())
        return _Reply(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=DEFAULT_API_CONNECT_OPTIONS)


class _Reply(llm.LLMStream):
    async def _run(self) -> None:
        assert isinstance(self._llm, ScriptedLLM)
        if self._llm.failure is not None:
            raise self._llm.failure
        said = self._llm.script.pop(0) if self._llm.script else "well"
        delta = llm.ChoiceDelta(role="assistant")
        if isinstance(said, str):
            delta.content = said
        else:
            name, arguments, *before = said
            delta.content = "".join(before) or None
            called = llm.FunctionToolCall(name=name, arguments=json.dumps(arguments), call_id=f"call-{name}")
            delta.tool_calls = [called]
        self._event_ch.send_nowait(llm.ChatChunk(id="reply", delta=delta))


class EvenVoice(tts.TTS):
    """Words of equal length, as a saw-tooth; or ``failure``."""

    def __init__(self, rate: int = 24000, failure: Exception | None = None) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=rate, num_channels=1)
        self.failure = failure

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _Speech(tts=self, input_text=text, conn_options=conn_options)


class _Speech(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        assert isinstance(self._tts, EvenVoice)
        if self._tts.failure is not None:
            raise self._tts.failure
        rate = self._tts.sample_rate
        output_emitter.initialize(request_id="speech", sample_rate=rate, num_channels=1, mime_type="audio/pcm")
        word = b"".join((n % 80 * 100).to_bytes(2, "little") for n in range(round(WORD * rate)))
        output_emitter.push(word * len(self._input_text.split()))
        output_emitter.flush()


class OneText(stt.STT):
    """Hears ``text`` wherever the voice activity detection finds speech."""

    def __init__(self, text: str = "stop please") -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self.text = text

    async def _recognize_impl(self, buffer: Any, **more: Any) -> stt.SpeechEvent:
        heard = stt.SpeechData(language="en", text=self.text)  # type: ignore[arg-type]
        return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[heard])
