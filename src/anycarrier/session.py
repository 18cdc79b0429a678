"""One live call's audio, over any transport, and its handler, which iterates it, speaks into it and hangs up."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from pybase64 import b64decode

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.calls import Call, EndReason, TransferStatus
from anycarrier.errors import ConfigurationError, UnreadableAudio
from anycarrier.events import CallEvent, MediaEvent
from anycarrier.listener import MediaTransport
from anycarrier.media_stream import MediaStream
from anycarrier.position import Playback
from anycarrier.serializer import MediaSerializer
from anycarrier.tap import Tap

Subject = TypeVar("Subject")
"""What a handler handles: a session, or what an agent makes of it."""


class CallControl(Protocol):
    """What a session asks of the exchange."""

    async def hang_up(self, call: Call | str, reason: EndReason = ...) -> None: ...

    async def transfer(self, call: Call | str, to: str = "", *, replaces: Call | str | None = None) -> None: ...

    async def wait_for_transfer(self, call: Call | str, timeout: float = ...) -> TransferStatus | None: ...

    async def send_digits(self, call: Call | str, digits: str) -> None: ...


class MediaSession:
    """A call, answered and connected. Made by the exchange, handed to your handler, which iterates it.

    Iteration ends when the stream does. Besides media events it yields the call events that concern a conversation
    (``MachineDetected``, ``TransferProgress``). ``format`` is the audio format of both directions, whatever the
    carrier uses. ``stream`` is the carrier's end: for the exchange and for bridges, a handler does not need it.
    """

    def __init__(
        self,
        call: Call,
        agent_id: str,
        serializer: MediaSerializer,
        transport: MediaTransport,
        control: CallControl,
        *,
        format: AudioFormat = PCMU_8K,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.call = call
        self.agent_id = agent_id
        self.format = format
        self.stream = MediaStream(call.provider, serializer, transport, format=format, clock=clock)
        self._control = control
        self._clock = clock
        self._output = self.stream.output
        self._position = self.stream.output.position

    def set_format(self, format: AudioFormat) -> None:
        """From now on both directions are in ``format``; the caller's audio that waits to be iterated is converted.

        ``ValueError`` for a format that the stream cannot be converted to, ``ConfigurationError`` on a call that is
        being recorded: what taps it has been told another format.
        """
        self.stream.set_format(format)
        self.format = format

    # --- events -------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> MediaSession:
        return self

    def __anext__(self) -> Awaitable[MediaEvent | CallEvent]:
        return self.stream.events.get()

    async def wait_stopped(self) -> None:
        """Wait until the stream is over."""
        await self.stream.wait_stopped()

    def receive_base64(self, callback: Callable[[str], None] | None) -> None:
        """Have the caller's audio given to ``callback`` as base64 text in :attr:`format`, for agents that speak JSON.

        It comes untouched where the carrier has it so, and is converted and encoded here elsewhere. What waits to be
        iterated is given first. All other events still come by iteration, and so does what ``callback`` raises, which
        ends this. ``callback`` is a plain function that does not wait. None ends it.
        """
        self.stream.receive_base64(callback)

    # --- speaking -----------------------------------------------------------------------------------------------------

    async def send_audio(self, payload: bytes) -> None:
        """Speak: ``payload`` in :attr:`format`, any length, as fast as you like; the carrier buffers and paces it.

        Raises ``StreamNotOpen`` once the stream is over.
        """
        if payload:
            await self._output.send(payload)

    async def send_base64(self, text: str) -> None:
        """:meth:`send_audio` for audio in base64, as agents that speak JSON have it.

        It passes untouched where the carrier takes it so, and is decoded and converted elsewhere.

        ``ValueError`` for what is not base64: the standard alphabet, padded, without line breaks.
        """
        payload = b64decode(text, validate=True)
        if payload:
            await self._output.send(payload, text)

    async def flush(self) -> None:
        """Send what the carrier's frames keep back of an unfinished 20 ms: one utterance is complete."""
        if not self.ended:
            await self._output.flush()

    async def mark(self, name: str) -> None:
        """Ask for ``MarkReached(name)`` once everything sent so far has been heard.

        For a mark that a ``clear`` overtakes ``MarkDropped(name)`` comes instead: what it stood for was not heard.
        """
        await self._output.mark(name)

    async def clear(self) -> Playback:
        """Stop speaking now: what the carrier has buffered is dropped. Returns seconds heard and dropped."""
        return await self._output.clear()

    def clear_now(self) -> Playback:
        """:meth:`clear` for callbacks that cannot wait: all is counted at once, and the carrier told first of all.

        Where the transport pushes, the carrier's frame is written at once, elsewhere by a task. Audio sent afterwards
        does not overtake it, and a :meth:`send_audio` in progress sends no further frames and returns.
        """
        return self._output.clear_now()

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until all that was sent has been heard, cleared, or the stream has ended; keys, until they were sent.

        Without ``timeout`` (seconds) it waits as long as audio and keys last, and two seconds for the carrier's word.
        """
        await self._output.drain(timeout)

    @property
    def sent(self) -> float:
        """Seconds of audio sent so far, cleared ones included."""
        return self._position.sent

    @property
    def heard(self) -> float:
        """Seconds of it the far end has heard so far; stays right across :meth:`clear`."""
        return self._position.heard(self._clock())

    @property
    def heard_is_measured(self) -> bool:
        """True where marks that came back bear :attr:`heard` out; False where it goes by the clock alone.

        By the clock is a position on a carrier without marks, before the first mark has come back after a ``clear``,
        and where a mark is overdue by two seconds, until another comes back.
        """
        return self._position.measured(self._clock())

    @property
    def queued(self) -> float:
        """Where, in seconds of :attr:`heard`, audio sent now would begin to be heard."""
        return self._position.queued

    @property
    def remaining(self) -> float:
        """Seconds of audio sent that are, by our best knowledge, still to be heard."""
        return self._output.remaining

    @property
    def ahead(self) -> float:
        """Seconds until all that was sent has been played, by the clock: 0.0 when silent.

        Pace audio by this. :attr:`remaining` stands still for up to two seconds where a mark does not come back.
        """
        return self._position.ahead(self._clock())

    # --- acting on the call -------------------------------------------------------------------------------------------

    async def hang_up(self, reason: EndReason = EndReason.AGENT_HANGUP) -> None:
        """End the call. One that is over already is success; one that was :attr:`transferred` goes on with its target.

        ``API_STOP`` ends that one too, where the carrier has it: not over SIP.
        """
        await self._control.hang_up(self.call, reason)

    async def transfer(self, to: str = "", *, replaces: Call | str | None = None) -> None:
        """Hand the far end to another number or ``sip:`` address; this stream ends, perhaps at once.

        ``replaces``, in place of ``to``, is another call of ours, whose far end takes over (:meth:`Exchange.transfer`).

        What is still to be heard may be cut: ``drain`` first. Returns once the carrier has taken the request, which it
        keeps to also when this is cancelled; what comes of it: :meth:`wait_for_transfer`.
        """
        if replaces is None:
            await self._control.transfer(self.call, to)
        else:
            await self._control.transfer(self.call, to, replaces=replaces)

    @property
    def transferred(self) -> bool:
        """True once a transfer was asked for, until it has failed: somebody else has the call, or is rung for it."""
        return self.call.transfer is not None

    async def wait_for_transfer(self, timeout: float = 60.0) -> TransferStatus | None:
        """ANSWERED once the target has the call; None when it failed, and the call is ours again if it goes on.

        ``TimeoutError`` while the target still rings after ``timeout`` seconds.
        """
        return await self._control.wait_for_transfer(self.call, timeout)

    async def send_digits(self, digits: str) -> None:
        """Send DTMF digits to the far end: 0-9 A-D * #, ``w`` waits half a second. See :meth:`Exchange.send_digits`."""
        await self._control.send_digits(self.call, digits)

    # --- what is known of it ------------------------------------------------------------------------------------------

    @property
    def line_number(self) -> str:
        """Our own number on this call."""
        return self.call.line_number

    @property
    def custom(self) -> Mapping[str, str]:
        """The values that travelled with the stream."""
        return self.stream.custom

    @property
    def stream_id(self) -> str:
        """The carrier's name for the stream."""
        return self.stream.id

    @property
    def ended(self) -> bool:
        """True once the stream is over."""
        return self.stream.stopped

    @property
    def stop_reason(self) -> str | None:
        """Why the stream ended, None while it runs."""
        return self.stream.stop_reason

    @property
    def unreadable(self) -> UnreadableAudio | None:
        """What is wrong with a stream whose audio cannot be decoded; such a stream is over as it starts."""
        return self.stream.unreadable

    @property
    def malformed_frames(self) -> int:
        """Frames from the carrier that could not be read; each was delivered as an ``UnknownEvent``."""
        return self.stream.malformed_frames

    @property
    def dropped_frames(self) -> int:
        """Audio frames thrown away because the handler did not take them in time."""
        return self.stream.events.dropped

    @property
    def waiting(self) -> int:
        """Events the handler has not taken yet."""
        return len(self.stream.events.waiting)

    @property
    def tap(self) -> Tap | None:
        """Listens in; set by whoever records the call. What it raises ends that, never the call."""
        return self.stream.tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self.stream.tap = tap


def check_handler(given: object, what: str, instead: str = "Give a function: async def front_desk(session).") -> None:
    """``ConfigurationError`` unless ``given`` can be called; ``what`` it was given as, and what to give ``instead``."""
    if not callable(given):
        raise ConfigurationError(f"{what} is of type {type(given).__name__}, which cannot be called. {instead}")


MAKE_IT_ASYNC = (
    "Write it as async def. One that makes a framework's agent is wrapped by the adapter's function: "
    "agents=..._agent(front_desk)."
)


async def run_handler(
    handler: Callable[[Subject], Awaitable[None]], subject: Subject, instead: str = MAKE_IT_ASYNC
) -> None:
    """Call ``handler`` and await what it returns. ``ConfigurationError``, which ends with the sentence ``instead``, if
    it cannot be called, or returns what cannot be awaited."""
    check_handler(handler, "the handler", instead)
    returned: object = handler(subject)
    if not inspect.isawaitable(returned):
        name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
        came = "None" if returned is None else type(returned).__name__
        raise ConfigurationError(f"{name} returned {came}, not an awaitable that handles the call. {instead}")
    await returned
