"""The control API of ``--sandbox``: ring one of our numbers, and be the person at the other end of any call.

Carrier-neutral; ``{call_id}`` is our call's id as either face shows it.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from anycarrier.audio import PCMU_8K, AudioFormat, pcmu_to_pcm16
from anycarrier.errors import AnycarrierError, ConfigurationError, InvalidNumber, UnknownProvider
from anycarrier.numbers import e164
from anycarrier.speech import SpeakingStyle
from anycarrier.testing.far_end import FarEnd
from anycarrier.wav import wav_bytes
from anycarrier_server.domain import control_call
from anycarrier_server.domain.access import need_admin
from anycarrier_server.domain.resources import Resources, SandboxCarriers
from anycarrier_server.http import endpoints
from anycarrier_server.http.endpoints import Asked, Endpoint, Face
from anycarrier_server.refusals import (
    CallOver,
    CredentialRequired,
    Forbidden,
    Invalid,
    NotOffered,
    StoreOverloaded,
    TooLarge,
    Unauthorized,
    Unknown,
)
from anycarrier_server.store import Store
from anycarrier_server.store.models import CallRow

LONGEST_AUDIO = 4 * 1024 * 1024
"""Bytes: eight minutes of mu-law."""

ARRIVAL = 5.0
"""Seconds for a ring to come to us as a webhook."""

Number = Annotated[str, Field(examples=["+14155550100"], max_length=32)]
Text = Annotated[str, Field(min_length=1, max_length=2000, examples=["Hello, I would like an appointment."])]


BARGE_IN = Field(default=False, description="Speak at once, over the greeting or whatever is being said")


class Body(BaseModel):
    """Base of what is posted here; unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Ring(Body):
    """Somebody rings. ``to`` is one of our numbers; ``say`` is spoken once they are answered and greeted."""

    to: Number
    from_: Number = Field(alias="from")
    provider: str | None = Field(default=None, description="the carrier it comes by; the number's own unless given")
    say: Text | None = None
    barge_in: bool = BARGE_IN


class Say(Body):
    """Words to speak, once the agent's greeting is over."""

    text: Text
    barge_in: bool = BARGE_IN


class Digits(Body):
    """Keys to press."""

    digits: str = Field(pattern=r"^[0-9A-D*#]{1,64}$", examples=["12#"])


class Seen(BaseModel):
    """The call as the person at the other end has it. ``heard_seconds`` is what they heard of us so far."""

    call_id: str | None
    id: str | None = Field(description="the same call, as a plain uuid")
    provider: str
    provider_call_id: str
    from_: str = Field(serialization_alias="from")
    to: str
    state: str = Field(description="ringing, answered or ended")
    streaming: bool
    heard_seconds: float
    digits: str = Field(description="keys our side pressed")
    hangup_cause: str | None
    transferred_to: str | None


class Problem(BaseModel):
    """Why not."""

    detail: Any
    code: str
    request_id: str


async def ring(asked: Asked[Ring, None]) -> Seen:
    """Answers once the call has come to us: its id is ours. What the agent does with it shows on either face."""
    need_admin(asked.caller, "the sandbox")
    sandboxes = _sandboxes(asked.resources)
    to, from_ = e164(asked.body.to), e164(asked.body.from_)
    line = await asked.store.lines.by_number(to)
    if line is not None and line.workspace_id != asked.caller.workspace_id:
        raise Unknown("number of this workspace")
    provider = asked.body.provider or (line.provider if line is not None else next(iter(sandboxes.played), ""))
    if provider not in sandboxes.played:
        raise UnknownProvider(provider, sandboxes.played)
    said = await spoken(asked.resources, asked.body.say) if asked.body.say else b""
    try:
        far_end = await sandboxes.played[provider].ring(to, from_, said=said if asked.body.barge_in else b"")
    except LookupError:
        raise Unknown("number at this carrier") from None
    if said and not asked.body.barge_in:
        asked.resources.spawn(far_end.say_in_turn(said), "speak at the far end")
    return _seen(provider, far_end, await _arrived(asked.store, far_end))


async def say(asked: Asked[Say, None]) -> Seen:
    """Speaks in real time, once the agent has greeted and after what was said before; answers at once.

    With ``barge_in`` it speaks over whatever is being said.
    """
    call, far_end = await _live(asked)
    sound = await spoken(asked.resources, asked.body.text)
    speaking = far_end.say(sound) if asked.body.barge_in else far_end.say_in_turn(sound)
    asked.resources.spawn(speaking, "speak at the far end")
    return _seen(call.provider, far_end, call)


async def audio(asked: Asked[None, None]) -> Seen:
    """The body is raw mu-law, 8 kHz, mono; it is spoken in real time."""
    call, far_end = await _live(asked)
    sound = await endpoints.read_bytes(asked.request, LONGEST_AUDIO)
    if not sound:
        raise Invalid.field("audio", "send mu-law 8 kHz audio as the body")
    asked.resources.spawn(far_end.say(sound), "speak at the far end")
    return _seen(call.provider, far_end, call)


async def digits(asked: Asked[Digits, None]) -> Seen:
    """Presses keys."""
    call, far_end = await _live(asked)
    await far_end.press(asked.body.digits)
    return _seen(call.provider, far_end, call)


async def hangup(asked: Asked[None, None]) -> Seen:
    """Puts the receiver down; again is no error."""
    call, far_end = await _found(asked)
    await far_end.hang_up()
    return _seen(call.provider, far_end, call)


async def look(asked: Asked[None, None]) -> Seen:
    """How things stand at the other end."""
    call, far_end = await _found(asked)
    return _seen(call.provider, far_end, call)


async def heard(asked: Asked[None, None]) -> Response:
    """What was heard there of us so far, as WAV, without idle silence."""
    _, far_end = await _found(asked)
    wav = wav_bytes(pcmu_to_pcm16(far_end.heard), AudioFormat("PCM16", 8000))
    return Response(wav, media_type="audio/wav")


async def spoken(resources: Resources, text: str) -> bytes:
    """``text`` as mu-law 8 kHz, by the first installed engine that can; :class:`NotOffered` (501) when none can."""
    engines = resources.engines.shared.candidates("speak")
    if not engines:
        raise NotOffered("no_synthesizer", "no speech engine is installed to say it: install anycarrier-speech-local")
    problems: list[str] = []
    for engine in engines:
        try:
            voice = await engine.synthesizer(SpeakingStyle(format=PCMU_8K))
            try:
                return b"".join([piece async for piece in voice.speak(text)])
            finally:
                await voice.aclose()
        except AnycarrierError as problem:
            problems.append(str(problem))
    raise NotOffered("synthesizer_failed", f"it could not be said: {'; '.join(problems)}")


async def _arrived(store: Store, far_end: FarEnd) -> CallRow | None:
    """Our call for a ring, once its webhook is in, which another process may have got."""
    try:
        async with asyncio.timeout(ARRIVAL):
            while True:
                over = far_end.state == "ended"
                call = await store.calls.find(far_end.call_id)
                if call is not None or over:
                    return call
                await asyncio.sleep(0.02)
    except TimeoutError:
        return None


def _sandboxes(resources: Resources) -> SandboxCarriers:
    if resources.sandboxes is None:
        raise NotOffered("no_sandbox", "this service runs without --sandbox")
    return resources.sandboxes


async def _found(asked: Asked[Any, None]) -> tuple[CallRow, FarEnd]:
    need_admin(asked.caller, "the sandbox")
    sandboxes = _sandboxes(asked.resources)
    call = await control_call.get(asked.store, asked.caller, asked.path["call_id"])
    far_end = sandboxes.far_end(call.provider, call.carrier_id)
    if far_end is None:
        raise Unknown("telephone for this call in this process")
    return call, far_end


async def _live(asked: Asked[Any, None]) -> tuple[CallRow, FarEnd]:
    call, far_end = await _found(asked)
    if far_end.state == "ended":
        raise CallOver("the call is over: nobody holds that telephone any more")
    return call, far_end


def _seen(provider: str, far_end: FarEnd, call: CallRow | None) -> Seen:
    return Seen(
        call_id=call.public_id if call is not None else None,
        id=str(call.id) if call is not None else None,
        provider=provider,
        provider_call_id=far_end.call_id,
        from_=far_end.from_,
        to=far_end.to,
        state=far_end.state,
        streaming=far_end.streaming,
        heard_seconds=round(far_end.heard_seconds(), 3),
        digits=far_end.digits,
        hangup_cause=far_end.hangup_cause,
        transferred_to=far_end.transferred_to,
    )


def refuse(error: Exception, request_id: str) -> Response:
    """Errors in the OneInbox shape."""
    status, code = _meaning(error)
    detail: Any = str(error)
    if isinstance(error, Invalid):
        detail = error.errors
    elif isinstance(error, HTTPException):
        detail = error.detail
    elif status == 500:
        detail = "internal error: the request id finds it in the log"
    return JSONResponse({"detail": detail, "code": code, "request_id": request_id}, status_code=status)


def _meaning(error: Exception) -> tuple[int, str]:
    match error:
        case Unauthorized():
            return 401, "unauthorized"
        case Forbidden():
            return 403, "forbidden"
        case Unknown():
            return 404, "not_found"
        case CallOver():
            return 409, "call_over"
        case TooLarge():
            return 413, "too_large"
        case Invalid() | InvalidNumber() | UnknownProvider():
            return 422, "validation"
        case NotOffered(code=code):
            return 501, code
        case StoreOverloaded():
            return 503, "overloaded"
        case HTTPException(status_code=status):
            return status, HTTPStatus(status).phrase.lower().replace(" ", "_")
        case CredentialRequired() | ConfigurationError() | AnycarrierError():
            return 400, "refused"
    return 500, "internal"


CALL = "/sandbox/calls/{call_id}"

FACE = Face(
    name="sandbox",
    prefix="/sandbox/calls",
    title="Sandbox: the far end of every call",
    endpoints=[
        Endpoint("POST", "/sandbox/calls", ring, "Ring one of our numbers", Ring, answer=Seen, status=201,
                 refusals=(400, 403, 404, 501)),
        Endpoint("GET", CALL, look, "The far end's view", answer=Seen, refusals=(403, 404)),
        Endpoint("GET", CALL + "/heard", heard, "What the far end heard, as WAV", refusals=(403, 404)),
        Endpoint("POST", CALL + "/say", say, "Say something", Say, answer=Seen, refusals=(403, 404, 409, 501)),
        Endpoint("POST", CALL + "/audio", audio, "Say raw mu-law audio", answer=Seen, refusals=(403, 404, 409)),
        Endpoint("POST", CALL + "/digits", digits, "Press keys", Digits, answer=Seen, refusals=(403, 404, 409)),
        Endpoint("POST", CALL + "/hangup", hangup, "Hang up", answer=Seen, refusals=(403, 404)),
    ],
    refuse=refuse,
    error=Problem,
)  # fmt: skip
