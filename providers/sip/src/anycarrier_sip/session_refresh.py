"""Keeps a call's session alive by the timer of RFC 4028, or ends it when nobody does."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from anycarrier.calls import EndReason
from anycarrier_sip import sdp
from anycarrier_sip.dialog import MIN_SE, SessionTimer, seconds_of
from anycarrier_sip.message import Response

if TYPE_CHECKING:
    from anycarrier_sip.sip_call import SipCall


class Refresher:
    """One call's."""

    def __init__(self, call: SipCall) -> None:
        self._call = call

    def keep(self, timer: SessionTimer | None) -> None:
        """Keep the session as agreed: refresh it in time where that is ours, end it where nobody did."""
        call = self._call
        call.stop("refresh", "expiry")
        if timer is None or call.call.ended:
            return
        if timer.ours:
            call.alarm("refresh", timer.refresh_after, lambda: call.spawn(self._refresh(timer.interval)))
        call.alarm("expiry", timer.over_after, lambda: call.hang_up(EndReason.MEDIA_ERROR))

    async def _refresh(self, interval: int) -> None:
        """By UPDATE where the far end takes it, else by INVITE. What fails is left to the expiry."""
        call, minimum = self._call, MIN_SE
        update = "update" in call.allowed
        while not call.call.ended:
            await call.settled.wait()
            response = await self._ask(update, {"Session-Expires": f"{interval};refresher=uac", "Min-SE": str(minimum)})
            if response is None or response.status in (408, 481):
                return call.hang_up(EndReason.MEDIA_ERROR)
            if response.status < 300:
                call.dialog.refresh(response)
                return self.keep(SessionTimer.granted(response))
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

    async def _ask(self, update: bool, headers: dict[str, str]) -> Response | None:
        call = self._call
        if update or call.media is None:
            return await call.ask("UPDATE", headers)
        call.offering = True
        try:
            response = await call.ask("INVITE", headers, sdp.offer(call.media.local), "application/sdp")
        finally:
            call.offering = False
        if response is not None and response.status < 300 and response.body and not call.call.ended:
            try:
                call.agree(sdp.accept(response.body, call.media.local))
            except sdp.NotAcceptable:
                call.hang_up(EndReason.MEDIA_ERROR)
        return response
