"""A call as a transport of pipecat: what its input and output share, and the events a bot subscribes to."""

from __future__ import annotations

import asyncio
from typing import Any

from pipecat.transports.base_transport import BaseTransport, TransportParams

from anycarrier import MediaSession
from anycarrier.errors import ConfigurationError
from anycarrier_pipecat.call_input import CallInput
from anycarrier_pipecat.call_output import LEAD, CallOutput


def default_params(**changes: Any) -> TransportParams:
    """Parameters for a call: audio both ways, chunks of 20 ms, no silence before hanging up; with ``changes``.

    ``ConfigurationError`` for a name that ``TransportParams`` does not have: pipecat ignores it.
    """
    if unknown := ", ".join(sorted(changes.keys() - TransportParams.model_fields)):
        raise ConfigurationError(f"TransportParams has no {unknown}. Its fields: {[*TransportParams.model_fields]}")
    audio: dict[str, Any] = {"audio_in_enabled": True, "audio_out_enabled": True, "audio_out_10ms_chunks": 2}
    # pipecat's default is two dead seconds at the end; the output waits until all has been heard instead.
    return TransportParams(**{**audio, "audio_out_end_silence_secs": 0, **changes})


class CallTransport(BaseTransport):
    """The call of ``session``, on any carrier: put :meth:`input` and :meth:`output` into a pipeline.

    Audio is sent at most ``lead`` seconds before it is heard. An ``EndFrame`` hangs up once all was heard, a
    ``CancelFrame`` at once; neither ends a call that was transferred. Make it in the handler of the call: where that is
    cancelled, by a limit of the call's duration for one, it is the exchange that hangs up.

    Events: ``on_client_connected(transport, session)``; ``on_client_disconnected(transport, session)``, once, when the
    far end is gone (where it has no handler, the pipeline is cancelled); ``on_machine_detected(transport, event)``, a
    :class:`anycarrier.MachineDetected`; ``on_transfer(transport, event)``, a :class:`anycarrier.TransferProgress`.
    """

    def __init__(self, session: MediaSession, params: TransportParams | None = None, *, lead: float = LEAD) -> None:
        super().__init__()
        self.session = session
        self.started = asyncio.Event()
        """Set once a pipeline with this transport's input has started."""
        self.handler = asyncio.current_task()
        """The task that made this. Where it is being cancelled, whoever does that says why the call ends."""
        params = params or default_params()
        if params.audio_out_sample_rate is None:
            # pipecat then resamples speech to what the call takes, once, and flushes its resampler after an utterance.
            params = params.model_copy(update={"audio_out_sample_rate": session.format.rate})
        self._input = CallInput(self, params)
        self._output = CallOutput(self, params, lead)
        for event in ("on_client_connected", "on_client_disconnected", "on_machine_detected", "on_transfer"):
            self._register_event_handler(event)

    def input(self) -> CallInput:
        """The caller's audio and keys as frames."""
        return self._input

    def output(self) -> CallOutput:
        """Frames to the caller."""
        return self._output

    async def transfer(self, to: str) -> None:
        """Hand the caller to another number or ``sip:`` address, once what was sent has been heard.

        Raises what :meth:`anycarrier.MediaSession.transfer` does. Speech still queued in the pipeline is not waited
        for: push a :class:`TransferCallFrame` behind it instead.
        """
        await self.session.drain()
        await self.session.transfer(to)
