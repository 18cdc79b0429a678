"""Joining legs: transfer (dial a leg B, then join), bridge (two that live already), and SIP REFER.

While two legs are joined neither has a media stream: ours stops with the bridge, and what the two telephones say to
each other is not played. The vendor's text leaves the stream after a bridge open; stopping is the cautious reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anycarrier_telnyx.sandbox.callee import callee
from anycarrier_telnyx.sandbox.leg import Leg


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
