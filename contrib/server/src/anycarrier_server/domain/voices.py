"""Whether the engine that speaks for an agent has a voice: asked where it is set, not on the first call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anycarrier.errors import AnycarrierError, UnknownVoice
from anycarrier.speech import SpeakingStyle

if TYPE_CHECKING:
    from anycarrier_server.service import Service


async def unknown(service: Service, voice: str, synthesizer: str | None = None) -> UnknownVoice | None:
    """What the engine says against this voice; None when it has it.

    None too when it cannot be asked here: one elsewhere would cost a connection, and a wrong voice costs no call.
    """
    try:
        engines = service.agents.engines.candidates("speak", synthesizer)
        if engines and not engines[0].remote:
            speaker = await engines[0].synthesizer(SpeakingStyle(voice=voice))
            await speaker.aclose()
    except UnknownVoice as refused:
        return refused
    except AnycarrierError:
        pass
    return None
