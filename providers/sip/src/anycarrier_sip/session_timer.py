"""The session timer (RFC 4028): a call ends by itself when a side is gone and nobody refreshes the session."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anycarrier.calls import EndReason
from anycarrier_sip import sdp
from anycarrier_sip.dialog import MIN_SE, options_of, seconds_of
from anycarrier_sip.header_values import parameters_of
from anycarrier_sip.message import Request, Response, SipError

if TYPE_CHECKING:
    from anycarrier_sip.sip_call import SipCall

SESSION_EXPIRES = 1800
"""Seconds that a session lasts unless it is refreshed; RFC 4028 recommends them."""


@dataclass(slots=True)
class SessionTimer:
    """``interval``: seconds that the session lasts without a refresh; ``ours``: whether the refresh is our turn."""

    interval: int
    ours: bool

    @property
    def refresh_after(self) -> float:
        return self.interval / 2

    @property
    def over_after(self) -> float:
        """Seconds after which a session that was not refreshed is hung up."""
        return self.interval - min(32.0, self.interval / 3)

    @classmethod
    def granted(cls, response: Response) -> SessionTimer | None:
        """What a 2xx to our INVITE or UPDATE says; None: the session does not expire."""
        interval = seconds_of(response, "Session-Expires")
        return None if interval is None else cls(max(interval, 2), _refresher(response) != "uas")

    @classmethod
    def asked(cls, request: Request) -> SessionTimer | None:
        """What we grant the sender of an INVITE or UPDATE; ``SipError`` 422 for less than :data:`MIN_SE`."""
        wanted, able = seconds_of(request, "Session-Expires"), "timer" in options_of(request, "Supported")
        if wanted is None:
            return cls(max(SESSION_EXPIRES, seconds_of(request, "Min-SE") or 0), ours=False) if able else None
        if wanted < MIN_SE and able:
            raise SipError(422)
        return cls(max(wanted, MIN_SE), ours=not able or _refresher(request) == "uas")

    def grant(self, response: Response) -> None:
        """Write it into our 2xx."""
        response.headers.set("Session-Expires", f"{self.interval};refresher={'uas' if self.ours else 'uac'}")
        if not self.ours:
            response.headers.add("Require", "timer")


def _refresher(message: Request | Response) -> str:
    return parameters_of(message.headers.get("Session-Expires") or "").get("refresher", "").lower()


def keep(call: SipCall, timer: SessionTimer | None) -> None:
    """Refresh the call's session in time where that is our turn, end it where nobody did."""
    call.stop("refresh", "expiry")
    if timer is None or call.call.ended:
        return
    if timer.ours:
        call.alarm("refresh", timer.refresh_after, lambda: call.spawn(_refresh(call, timer.interval)))
    call.alarm("expiry", timer.over_after, lambda: call.hang_up(EndReason.MEDIA_ERROR))


async def _refresh(call: SipCall, interval: int) -> None:
    """By UPDATE where the far end takes it, else by INVITE. What fails is left to the expiry."""
    minimum, update = MIN_SE, "update" in call.allowed or call.media is None
    while not call.call.ended:
        await call.settled.wait()
        headers = {"Session-Expires": f"{interval};refresher=uac", "Min-SE": str(minimum)}
        response = await (call.ask("UPDATE", headers) if update else _reinvite(call, headers))
        if response is None or response.status in (408, 481):
            return call.hang_up(EndReason.MEDIA_ERROR)
        if response.status < 300:
            call.dialog.refresh(response)
            return keep(call, SessionTimer.granted(response))
        if response.status == 491:  # theirs and ours crossed (RFC 3261, 14.1)
            pause = random.uniform(2.1, 4.0) if call.dialog.caller else random.uniform(0.0, 2.0)  # noqa: S311
            await asyncio.sleep(pause)
        elif response.status == 422 and (seconds_of(response, "Min-SE") or 0) > minimum:
            minimum = seconds_of(response, "Min-SE") or 0
            interval = max(interval, minimum)
        elif update and response.status in (405, 501):
            update = False
        else:
            return


async def _reinvite(call: SipCall, headers: dict[str, str]) -> Response | None:
    def heard(response: Response) -> None:
        if call.offering and response.status >= 200 and response.status not in (401, 407):
            call.offering = False  # now, and not a turn of the loop later: an offer of theirs may be right behind
            if response.status < 300 and response.body and not call.call.ended:
                call.conclude(response.body)

    assert call.media is not None
    call.offering = True
    response = await call.ask("INVITE", headers, sdp.offer(call.media.local), "application/sdp", heard=heard)
    if response is None or response.status in (401, 407):
        call.offering = False
    return response
