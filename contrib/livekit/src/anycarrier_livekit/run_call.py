"""One call, from the start of its agent session to the end of either."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, ConversationItemAddedEvent, get_job_context
from livekit.agents.voice import TranscriptSynchronizer

from anycarrier import AudioFormat, CallEvent, DigitPressed, MediaEvent, MediaSession
from anycarrier.agent import START_TIMEOUT, RawAgent, call_back, factory_agent, with_options
from anycarrier.errors import ConfigurationError
from anycarrier_livekit.call_audio import CallAudioInput, CallAudioOutput, EventCallback

KEYS = "0123456789*#ABCD"
"""In the order of their codes."""

CLOSE_TIMEOUT = 3.0
"""Seconds that it may take to close; the exchange gives a handler five whose call is over."""

MAKE_BOTH = "Make a new Agent and AgentSession per call: livekit_agent(lambda call: (Agent(...), AgentSession(...)))."

Made = tuple[Agent, AgentSession[Any]]
Factory = Callable[[MediaSession], Made | Coroutine[Any, Any, Made]]
OnDigit = Callable[[AgentSession[Any], str], object]
_call: ContextVar[MediaSession] = ContextVar("anycarrier_call")


def get_call() -> MediaSession:
    """The call that the running agent, tool or callback belongs to; ``RuntimeError`` where there is none."""
    if (call := _call.get(None)) is None:
        raise RuntimeError("no call: get_call() is for agents, tools and callbacks of a call in run_call")
    return call


class CallRoom(rtc.EventEmitter[str]):
    """Just enough of a room for what asks a job context for one, such as ``GetDtmfTask`` and ``send_dtmf_events``.

    For ``fake_job_context(room=CallRoom(session))`` around :func:`run_call`, which emits ``sip_dtmf_received`` here. It
    is its own local participant. There is no LiveKit server behind it: only keys pass.
    """

    def __init__(self, session: MediaSession) -> None:
        super().__init__()
        self._session = session
        self.name = session.call.reference
        self.local_participant = self

    async def publish_dtmf(self, *, code: int, digit: str) -> None:
        """Press one key towards the far end."""
        await self._session.send_digits(digit)


class Watch:
    """``ended`` is done when the agent session has closed, or an agent in it has failed; with the failure, or None.

    The framework only logs what an agent raises as it is entered (voice/agent_activity.py, ``_traceable_on_enter``) and
    that it could not start one that takes over, and waits for ever for an ``on_enter`` that does not return.
    """

    def __init__(self, agent_session: AgentSession[Any], start_timeout: float) -> None:
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.pending: dict[object, Any] = {}
        """What ends with the call: for each agent its time to start, then its ``on_enter``; and callbacks."""
        self._agent_session, self._start_timeout = agent_session, start_timeout
        agent_session.on("conversation_item_added", self._item_added)
        agent_session.on("close", lambda event: self.end(getattr(event.error, "error", None)))

    def end(self, failure: BaseException | None = None) -> None:
        """The first word counts."""
        if not self.ended.done():
            self.ended.set_result(failure)

    def call_back(self, callback: Callable[..., object] | None, *values: object) -> None:
        """Call an app's callback; what it may wait for ends with the call."""
        task = asyncio.create_task(call_back(callback, *values), name="callback of a call")
        self.pending[task] = task
        task.add_done_callback(self.pending.pop)

    def cancel(self) -> None:
        """Let nobody wait for an ``on_enter`` or a callback any longer."""
        for each in self.pending.values():
            each.cancel()

    def _item_added(self, event: ConversationItemAddedEvent) -> None:
        agent = self._agent_session.current_agent  # it is about to be started, the first one too
        if event.item.type != "agent_handoff" or agent in self.pending:  # or goes on, where a task has done its work
            return
        enter, late = agent.on_enter, TimeoutError(f"agent {agent.id} did not start in {self._start_timeout:g} s")
        self.pending[agent] = asyncio.get_running_loop().call_later(self._start_timeout, self.end, late)

        async def on_enter() -> None:
            self.pending[agent].cancel()
            self.pending[agent] = asyncio.current_task()
            try:
                await enter()
            except Exception as failure:
                if not self._agent_session._is_closing():  # one that is closing refuses to say more
                    self.end(failure)
                raise

        agent.on_enter = on_enter  # type: ignore[method-assign]


watches: dict[AgentSession[Any], Watch] = {}
"""Of the agent sessions in calls, for tools, which may run in a context without the call."""


async def run_call(
    session: MediaSession, agent: Agent, agent_session: AgentSession[Any], *, rate: int | None = None,
    start_timeout: float = START_TIMEOUT, on_digit: OnDigit | None = None, on_event: EventCallback | None = None,
) -> None:  # fmt: skip
    """Start ``agent_session`` with the call as its audio; return once either has ended.

    The caller's hang-up shuts the agent session down. When the agent session closes by itself, return from your handler
    too, and the call is hung up. Raises what the agent session closed with, what the ``on_enter`` of any of its agents
    raised, and ``TimeoutError`` if the agent session, or an agent that takes over, does not start within
    ``start_timeout`` seconds. ``ConfigurationError`` for an agent session that was started or closed before.

    ``rate`` is in samples a second, both ways (None: the call's). ``on_digit`` is called with ``agent_session`` and
    each key pressed, ``on_event`` with all events that are not audio (``MachineDetected``, ``TransferProgress``, ...).
    Both may be coroutine functions; what they raise is logged.
    """
    # One that has closed could be started again, and then not be closed.
    if agent_session in watches or agent_session._is_closing() or agent_session.agent_state != "initializing":
        raise ConfigurationError(f"this AgentSession is in a call, or was started or closed before. {MAKE_BOTH}")
    room: Any = getattr(get_job_context(required=False), "room", None)

    def received(event: MediaEvent | CallEvent) -> None:
        if isinstance(event, DigitPressed):
            agent_session.reset_away_timer()
            if isinstance(room, CallRoom):
                room.emit("sip_dtmf_received", rtc.SipDTMF(KEYS.find(event.digit), event.digit))
            watch.call_back(on_digit, agent_session, event.digit)
        else:
            watch.call_back(on_event, event)

    _call.set(session)
    watches[agent_session] = watch = Watch(agent_session, start_timeout)
    # Without a room nobody else cuts the transcript at what was heard.
    output, text = CallAudioOutput(session, rate), agent_session.output.transcription
    synchronizer = TranscriptSynchronizer(next_in_chain_audio=output, next_in_chain_text=text)
    agent_session.input.audio = CallAudioInput(session, rate, received)
    agent_session.output.audio = synchronizer.audio_output
    agent_session.output.transcription = synchronizer.text_output
    starting = asyncio.ensure_future(agent_session.start(agent))
    try:
        await asyncio.wait([starting, output.over], timeout=start_timeout, return_when=asyncio.FIRST_COMPLETED)
        if output.over.done():
            await asyncio.wait([starting], timeout=CLOSE_TIMEOUT)  # one that has half started cannot be closed
        elif not starting.done():
            raise TimeoutError(f"the agent session did not start within {start_timeout:g} s")
        if starting.done():
            await starting
            await asyncio.wait([output.over, watch.ended], return_when=asyncio.FIRST_COMPLETED)
            # Or waits, where it closes already.
            await asyncio.wait([asyncio.ensure_future(agent_session.aclose())], timeout=CLOSE_TIMEOUT)
            if watch.ended.done() and (failure := watch.ended.result()) is not None:
                raise failure
    finally:
        starting.cancel()
        agent_session.shutdown(drain=False)  # nothing to do, unless this was cancelled
        watch.cancel()
        del watches[agent_session]
        await synchronizer.aclose()


def livekit_agent(
    factory: Factory, *, audio: AudioFormat | None = None, start_timeout: float = START_TIMEOUT, **options: Any
) -> RawAgent:
    """A handler of calls. For each, ``factory(session)`` makes, or awaits, an agent and an agent session.

        def front_desk(call):
            return FrontDesk(caller=call.call.from_), AgentSession(stt=..., llm=..., tts=...)

        handler = livekit_agent(front_desk)

    It goes wherever a handler goes: ``Exchange(agents=handler)``, ``Agents.add("front-desk", handler=handler)``, and by
    its path ``"module:handler"``. ``audio`` is the format of its calls (None: the exchange's), ``options`` are those of
    :func:`run_call`. ``ConfigurationError`` for a ``factory`` that cannot be called with a session and for options that
    there are not, and in the call for a factory that returns something else.
    """
    run = with_options(run_call, start_timeout=start_timeout, **options)
    return factory_agent(
        factory, run, makes=(Agent, AgentSession), instead=MAKE_BOTH, start_timeout=start_timeout, audio=audio
    )
