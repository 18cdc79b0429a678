"""A transfer by REFER (RFC 3515): asking the far end to go elsewhere, and what it says became of that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from anycarrier.calls import EndReason
from anycarrier.errors import InvalidSipAddress, ProviderUnavailable, RequestRejected
from anycarrier.events import TransferProgress
from anycarrier.numbering_plan import Reach, reach
from anycarrier.sip import SipAddress
from anycarrier_sip.call_status import transfer_status
from anycarrier_sip.dialog import Dialog
from anycarrier_sip.header_values import parameters_of
from anycarrier_sip.message import Request, SipError, Uri

if TYPE_CHECKING:
    from anycarrier_sip.sip_call import SipCall

PATIENCE = 180.0
"""Seconds in which the far end is to say what became of a transfer."""
LEAVING = 0.5
"""Seconds in which a far end that has given up ringing the target mostly hangs up: then the end is its doing."""
GRACE = 2.0
"""Seconds that a far end which was transferred has to hang up by itself."""

DEAR = (Reach.PREMIUM, Reach.EMERGENCY)

_STATUS_LINE = re.compile(rb"\s*SIP/2\.0 ([1-6]\d\d)(?!\d)")


def replacing(other: Dialog) -> Uri:
    """Where to refer somebody who is to take over our part in ``other``: to its far end's Contact. That is a stranger's
    text, and whoever is sent there calls what it names. ``RequestRejected``."""
    try:
        address = SipAddress.parse(other.target)
        fit = not address.rerouted() and (address.number is None or reach(address.number) not in DEAR)
    except InvalidSipAddress:
        fit = False
    if not fit:
        message = "the other call's far end names an address that nobody may be sent to"
        raise RequestRejected("sip", "transfer", message, next_step="Transfer to its number, with to=.")
    return Uri.parse(other.target).with_headers({"Replaces": other.replaces()})


class Referral:
    """One transfer of one call. Until it is over, it is the call's :attr:`SipCall.referral`."""

    def __init__(self, call: SipCall) -> None:
        self._call = call
        self._accepted = self._given_up = self._left = False
        self._cseq = ""
        """Of our REFER: what names its NOTIFYs, where there was another one before."""

    async def ask(self, refer_to: str, headers: Mapping[str, str]) -> None:
        """Send the REFER. Raises for a refusal, after which the call goes on as before."""
        call = self._call
        call.referral = self
        call.alarm("transfer", PATIENCE, lambda: self._over("failed"))
        response = await call.ask("REFER", {"Refer-To": refer_to, **headers})
        if response is None:
            raise ProviderUnavailable(call.trunk.provider.name, "transfer", "the far end did not answer the REFER")
        if response.status >= 300:
            self._forget()
            raise call.trunk.provider.refused("transfer", response)
        self._accepted, self._cseq = True, str(response.cseq.number)
        if self._left:
            self.hung_up()

    def notified(self, request: Request) -> None:
        """Read a NOTIFY: its body is the status line that the target gave. ``SipError`` for another REFER's."""
        event = parameters_of(request.headers.get("Event") or "")
        if event[""].lower() != "refer" or (self._cseq and event.get("id", self._cseq) != self._cseq):
            raise SipError(481, "Subscription Does Not Exist")
        line = _STATUS_LINE.match(request.body)
        status = transfer_status(int(line[1])) if line else None
        ended = (request.headers.get("Subscription-State") or "").strip().lower().startswith("terminated")
        if status == "canceled":
            self._given_up = True
            self._call.alarm("transfer", LEAVING, lambda: self._over("canceled"))
        elif status is not None or ended:
            self._over(status or "failed")

    def hung_up(self) -> None:
        """The far end is gone: to the target, unless it had given that up, or never says that it goes."""
        self._left = True
        if self._accepted:
            self._over("canceled" if self._given_up else "answered")

    def _over(self, status: str) -> None:
        """Tell what became of it; whoever was transferred and does not hang up is hung up."""
        call = self._call
        if call.referral is not self:
            return
        self._forget()
        event_id = f"{call.call.id}:transfer:{call.dialog.local_cseq}"
        call.trunk.desk.tell(TransferProgress(call_id=call.call.id, event_id=event_id, status=status))
        if status == "answered" and not call.call.ended:
            call.alarm("transferred", GRACE, lambda: call.hang_up(EndReason.TRANSFERRED))

    def _forget(self) -> None:
        self._call.referral = None
        self._call.stop("transfer")
