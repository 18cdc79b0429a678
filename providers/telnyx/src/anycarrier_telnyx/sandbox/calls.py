"""Calls: dial, fetch, and the commands on a call, with what is allowed when and what each one does.

While two legs are joined, neither has a media stream, and what the two say to each other is not simulated. Telnyx's
documents leave open whether the stream survives a bridge; stopping it is the cautious reading.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response

from anycarrier.testing.sandbox import may_stream_to
from anycarrier.testing.sandbox_numbers import Outcome, outcome_of
from anycarrier_telnyx.sandbox.leg import Leg, callee, refused_at_once
from anycarrier_telnyx.sandbox.media_stream import CODECS
from anycarrier_telnyx.sandbox.parameters import ACTIONS, DIAL, Rules
from anycarrier_telnyx.sandbox.rest import Ask, Handler, Operation, data
from anycarrier_telnyx.sandbox.validation import problems, refuse

Command = Mapping[str, Any]
Effect = Callable[[Leg, Command], dict[str, Any] | None]


async def dial(ask: Ask) -> Response:
    """POST /calls"""
    body = ask.body
    command_id = body.get("command_id")
    if command_id in ask.account.dials:
        return data(ask.account.dials[command_id])
    application = ask.account.applications.get(body["connection_id"])
    if application is None:
        raise refuse("10015", "There is no such connection.", pointer="/connection_id")
    if not application["outbound"].get("outbound_voice_profile_id"):
        raise refuse("10010", "The connection has no outbound voice profile.", pointer="/connection_id")
    to, digits = _destination(body["to"])
    _check_media(body)
    other = ask.account.leg(body["link_to"]) if "link_to" in body else None
    linked = (other.from_,) if other is not None and body.get("bridge_intent") else ()
    ask.account.may_show(body["from"], *linked)
    await _try(ask, to)
    settings = {"send_digits_on_answer": digits, **body} if digits else dict(body)
    if "record" in body:
        settings["recording_id"] = str(uuid.uuid4())
    leg = Leg(
        ask.sandbox,
        ask.account,
        incoming=False,
        from_=body["from"],
        to=to,
        connection_id=body["connection_id"],
        settings=settings,
        session_id=other.session_id if other else None,
    )
    if other is not None and body.get("bridge_on_answer"):
        leg.when_answered = lambda: join(other, leg)
    leg.initiated()
    leg.begin(callee(leg))
    names = ("record_type", "call_control_id", "call_leg_id", "call_session_id")
    made = {name: leg.summary()[name] for name in names} | {"is_alive": False}
    if "record" in body:
        made["recording_id"] = settings["recording_id"]
    if command_id:
        ask.account.dials[command_id] = made
    return data(made)


async def _try(ask: Ask, to: str) -> None:
    """What dialling a magic number comes to before any leg exists."""
    if outcome_of(to) is Outcome.TIMEOUT:
        await ask.sandbox.closing.wait()
        raise refuse("10007")
    if (refusal := refused_at_once(to)) is not None:
        raise refusal


def _destination(to: Any) -> tuple[str, str]:
    targets = to if isinstance(to, list) else [to]
    for target in targets:
        for found in problems("dialled", target, "/to"):
            raise refuse(found["code"], found["detail"], pointer="/to")
    if len(targets) > 1:
        raise refuse("10038", "The sandbox does not ring several destinations at once.", pointer="/to")
    number, _, digits = targets[0].partition(",")
    return number, digits


def _check_media(settings: Command) -> None:
    """Refuse what could not be acted out, rather than send something else than was asked for."""
    url = settings.get("stream_url")
    if url is not None and not may_stream_to(url):
        raise refuse("10015", "'stream_url' must be a wss:// URL.", pointer="/stream_url")
    for name in ("stream_codec", "stream_bidirectional_codec"):
        if settings.get(name, "default") not in ("default", *CODECS):
            raise refuse("10038", f"The sandbox does not code {settings[name]}.", pointer=f"/{name}")
    rate = settings.get("stream_bidirectional_sampling_rate", 8000)
    if rate != 8000 and settings.get("stream_bidirectional_codec") != "L16":
        at = "/stream_bidirectional_sampling_rate"
        raise refuse("10033", "This codec has 8000 samples a second.", pointer=at)
    if "mp3" in (settings.get("format"), settings.get("record_format", "mp3" if "record" in settings else "")):
        raise refuse("10038", "The sandbox records WAV only.", pointer="/format")


async def fetch_call(ask: Ask) -> Response:
    """GET /calls/{id}"""
    return data(ask.account.leg(ask.ids["id"]).summary())


# --- joining two legs ---------------------------------------------------------------------------------------------


def join(leg: Leg, other: Leg) -> None:
    """Connect two answered legs with each other."""
    for one, its_peer in ((leg, other), (other, leg)):
        one.peer = its_peer
        if one.stream is not None:
            one.stream.stop()
        one.tell("call.bridged")


def transfer(leg: Leg, command: Mapping[str, Any]) -> None:
    """Dial leg B and join when it answers. When it does not, leg A simply goes on.

    A leg A nobody has answered yet is answered in that moment: its caller hears leg B ring until then.
    """
    to, _, digits = command["to"].partition(",")
    settings = {"send_digits_on_answer": digits} if digits else {}
    settings |= {name: value for name, value in command.items() if name not in ("client_state", "command_id")}
    if "target_leg_client_state" in command:
        settings["client_state"] = command["target_leg_client_state"]
    if command.get("park_after_unbridge"):
        leg.settings["park_after_unbridge"] = settings.pop("park_after_unbridge")
    target = Leg(
        leg.sandbox,
        leg.account,
        incoming=False,
        from_=command.get("from", leg.to),
        to=to,
        connection_id=leg.connection_id,
        settings=settings,
        session_id=leg.session_id,
    )
    leg.ringing = target

    def connect() -> None:
        leg.ringing = None
        if leg.ended_at is not None:
            target.end("originator_cancel", "caller", "487")
            return
        if leg.answered_at is None:
            leg.answer({})
        leg.far_end.transferred_to = to
        join(leg, target)

    target.when_answered = connect
    target.initiated()
    target.begin(callee(target))


def refer(leg: Leg, command: Mapping[str, Any]) -> None:
    """Ask the far end's own switch to go elsewhere; it agrees, and the leg is over for us."""
    leg.far_end.transferred_to = command["sip_address"]
    leg.tell("call.refer.started", sip_notify_response=202)
    leg.tell("call.refer.completed", sip_notify_response=200)
    leg.end("normal_clearing", "caller" if leg.incoming else "callee", "200")


# --- commands -----------------------------------------------------------------------------------------------------


def _answer(leg: Leg, command: Command) -> dict[str, Any] | None:
    if "late_answer" in leg.sandbox.quirks:
        leg.begin(_answer_later(leg, command))
        return None
    if "record" not in command:
        leg.answer(command)
        return None
    recording_id = str(uuid.uuid4())
    leg.answer({**command, "recording_id": recording_id})
    return {"recording_id": recording_id}


async def _answer_later(leg: Leg, command: Command) -> None:
    await asyncio.sleep(0.3)
    if leg.ended_at is None:
        leg.answer(command)


def _reject(leg: Leg, command: Command) -> None:
    busy = command["cause"] == "USER_BUSY"
    leg.end(*(("user_busy", "callee", "486") if busy else ("call_rejected", "callee", "603")))


def _bridge(leg: Leg, command: Command) -> None:
    other = leg.account.leg(command["call_control_id"])
    if other.ended_at is not None or other.answered_at is None or other is leg:
        raise refuse("10027", "The other call cannot be bridged.", pointer="/call_control_id")
    if "park_after_unbridge" in command:
        leg.settings["park_after_unbridge"] = command["park_after_unbridge"]
    join(leg, other)


def _send_dtmf(leg: Leg, command: Command) -> None:
    leg.far_end.digits += command["digits"].replace("w", "").replace("W", "")


def _speak(leg: Leg, command: Command) -> None:
    # Nothing is heard: the sandbox has no voice, and says so only by being silent.
    leg.tell("call.speak.started")
    leg.tell("call.speak.ended", status="completed")


def _start_stream(leg: Leg, command: Command) -> None:
    if "stream_url" not in command:
        raise refuse("10004", "The 'stream_url' parameter is required.", pointer="/stream_url")
    if leg.stream is not None:
        raise refuse("90045", "The call is streaming already.")
    leg.start_stream(command)


def _stop_stream(leg: Leg, command: Command) -> None:
    if leg.stream is None or command.get("stream_id", leg.stream.id) != leg.stream.id:
        raise refuse("90048", "There is no such stream on this call.")
    leg.stream.stop()


def _start_recording(leg: Leg, command: Command) -> None:
    leg.record(command["channels"])


def _each_recording(act: str) -> Effect:
    def effect(leg: Leg, command: Command) -> None:
        wanted = command.get("recording_id")
        found = [r for r in leg.recordings if r.ended_at is None and wanted in (None, r.id)]
        if not found:
            raise refuse("10027", "The call is not being recorded.")
        for recording in found:
            getattr(recording, act)()

    return effect


EFFECTS: Mapping[str, Effect] = {
    "answer": _answer,
    "reject": _reject,
    "hangup": lambda leg, command: leg.hang_up(),
    "bridge": _bridge,
    "transfer": transfer,
    "refer": refer,
    "send_dtmf": _send_dtmf,
    "speak": _speak,
    "streaming_start": _start_stream,
    "streaming_stop": _stop_stream,
    "record_start": _start_recording,
    "record_stop": _each_recording("stop"),
    "record_pause": _each_recording("pause"),
    "record_resume": _each_recording("resume"),
    "client_state_update": lambda leg, command: None,
}
BEFORE_ANSWER = frozenset({"answer", "reject", "hangup", "transfer", "client_state_update"})


def _command(name: str) -> Handler:
    async def handler(ask: Ask) -> Response:
        leg, body = ask.account.leg(ask.ids["id"]), ask.body
        if leg.ended_at is not None:
            raise refuse("90018", "This call is no longer active and can't receive commands.")
        if body.get("command_id") in leg.commands:
            return data({"result": "ok"})
        if name in ("answer", "reject"):
            if not leg.incoming:
                raise refuse("90102", "Only an incoming call can be answered or rejected.")
            if leg.answered_at is not None:
                raise refuse("10027", "The call has been answered already.")
        elif name not in BEFORE_ANSWER and leg.answered_at is None:
            raise refuse("90034", "The call has not been answered yet.")
        _check_media(body)
        if name == "transfer":
            if "from" in body:
                leg.account.may_show(body["from"], leg.from_, leg.to)
            await _try(ask, body["to"].partition(",")[0])
        before = leg.client_state, dict(leg.settings)
        leg.obey(body)
        try:
            more = EFFECTS[name](leg, body)
        except Exception:
            leg.client_state, leg.settings = before
            raise
        if "command_id" in body:
            leg.commands.add(body["command_id"])
        return data({"result": "ok", **(more or {})})

    return handler


def call_operations() -> list[Operation]:
    """Everything below /calls."""
    rules: Mapping[str, Rules] = ACTIONS
    return [
        Operation("POST", "/calls", dial, DIAL),
        Operation("GET", "/calls/{id}", fetch_call),
        *(
            Operation("PUT" if name == "client_state_update" else "POST", f"/calls/{{id}}/actions/{name}",
                      _command(name), rules[name])
            for name in EFFECTS
        ),
    ]
