"""One call, from the start of its agent session to the end of either."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from livekit.agents import Agent, AgentSession, CloseEvent, get_job_context
from livekit.agents.voice import TranscriptSynchronizer
from livekit.rtc import SipDTMF

from anycarrier import CallEvent, DigitPressed, MediaEvent, MediaSession
from anycarrier.agent import RawAgent, raw_agent
from anycarrier_livekit.call_audio import CallAudioInput, CallAudioOutput, EventCallback
from anycarrier_livekit.call_room import CallRoom

KEYS = "0123456789*#ABCD"
"""In the order of their codes."""

START_TIMEOUT = 10.0
"""Seconds that an agent session may take to be made and to start: the caller hears nothing meanwhile."""

CLOSE_TIMEOUT = 3.0
"""Seconds that it may take to close; the exchange gives a handler five whose call is over."""

Made = tuple[Agent, AgentSession[Any]]
_call: ContextVar[MediaSession] = ContextVar("anycarrier_call")


def get_call() -> MediaSession:
    """The call that the running agent, tool or callback belongs to; ``RuntimeError`` where there is none."""
    if (call := _call.get(None)) is None:
        raise RuntimeError("no call: get_call() is for agents, tools and callbacks of a call in run_call")
    return call


async def run_call(
    session: MediaSession, agent: Agent, agent_session: AgentSession[Any], *, rate: int = 8000,
    on_digit: Callable[[str], None] | None = None, on_event: EventCallback | None = None,
) -> None:  # fmt: skip
    """Start ``agent_session`` with the call as its audio; return once either has ended.

    The caller's hang-up shuts the agent session down. When the agent session closes by itself, return from your handler
    too, and the call is hung up. Raises what the agent session closed with, what ``agent.on_enter`` raised, and
    ``TimeoutError`` if the agent session does not start within ten seconds.

    ``rate`` is in samples a second, both ways. ``on_digit`` gets each key that the caller presses, ``on_event`` all
    other events that are not audio (``MachineDetected``, ``TransferProgress``, ...).
    """
    room: Any = getattr(get_job_context(required=False), "room", None)

    def received(event: MediaEvent | CallEvent) -> None:
        if isinstance(event, DigitPressed):
            agent_session.reset_away_timer()
            if isinstance(room, CallRoom):
                room.emit("sip_dtmf_received", SipDTMF(KEYS.find(event.digit), event.digit))
            if on_digit is not None:
                on_digit(event.digit)
        elif on_event is not None:
            on_event(event)

    token = _call.set(session)
    ended = _watch(agent, agent_session)
    # Without a room nobody else cuts the transcript at what was heard.
    output, text = CallAudioOutput(session, rate), agent_session.output.transcription
    synchronizer = TranscriptSynchronizer(next_in_chain_audio=output, next_in_chain_text=text)
    agent_session.input.audio = CallAudioInput(session, rate, received)
    agent_session.output.audio = synchronizer.audio_output
    agent_session.output.transcription = synchronizer.text_output
    over: asyncio.Future[Any] = asyncio.ensure_future(session.wait_stopped())
    starting = asyncio.ensure_future(agent_session.start(agent))
    try:
        await asyncio.wait({starting, over}, timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if over.done():
            await asyncio.wait({starting}, timeout=CLOSE_TIMEOUT)  # one that has half started cannot be closed
        elif not starting.done():
            raise TimeoutError(f"the agent session did not start within {START_TIMEOUT:g} s")
        if starting.done():
            await starting
            await asyncio.wait([over, ended], return_when=asyncio.FIRST_COMPLETED)
            closing = asyncio.ensure_future(agent_session.aclose())  # or waits, where it closes already
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT)
            if ended.done() and (failure := ended.result()) is not None:
                raise failure
    finally:
        over.cancel()
        starting.cancel()
        agent_session.shutdown(drain=False)  # nothing to do, unless this was cancelled
        _call.reset(token)
        await synchronizer.aclose()


def _watch(agent: Agent, agent_session: AgentSession[Any]) -> asyncio.Future[Any]:
    """Done when the agent session has closed or its agent has raised as it was entered; with the failure, or None.

    The framework logs the latter and leaves the caller in silence (voice/agent_activity.py, ``_traceable_on_enter``).
    """
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    enter = agent.on_enter

    async def on_enter() -> None:
        try:
            await enter()
        except Exception as failure:
            if not (ended.done() or agent_session._is_closing()):  # one that is closing refuses to say more
                ended.set_result(failure)
            raise

    def on_close(event: CloseEvent) -> None:
        if not ended.done():
            ended.set_result(getattr(event.error, "error", None))

    agent.on_enter = on_enter  # type: ignore[method-assign]
    agent_session.on("close", on_close)
    return ended


def livekit_agent(factory: Callable[[MediaSession], Made | Coroutine[Any, Any, Made]], *, rate: int = 8000) -> RawAgent:
    """A handler of calls. For each, ``factory(session)`` makes, or awaits, an agent and an agent session.

        def front_desk(call):
            return FrontDesk(caller=call.call.from_), AgentSession(stt=..., llm=..., tts=...)

        handler = livekit_agent(front_desk)

    It goes wherever a handler goes: ``Exchange(agents=handler)``, ``Agents.add("front-desk", handler=handler)``, and by
    its path ``"module:handler"``.
    """

    @raw_agent
    async def handler(session: MediaSession) -> None:
        _call.set(session)  # a call has a task, and with it a context, of its own
        made = factory(session)
        if asyncio.iscoroutine(made):
            made = await asyncio.wait_for(made, START_TIMEOUT)
        await run_call(session, *made, rate=rate)

    return handler
