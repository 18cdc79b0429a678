"""What a call came to, in the words both faces show."""

from __future__ import annotations

from anycarrier_server.store.models import CallRow

NOT_CONNECTED = "Not Connected"
VOICEMAIL = "Voicemail"


def shown(call: CallRow) -> str | None:
    """The outcome somebody set or the analysis found; for calls nobody talked on, what their end says."""
    if call.outcome is not None or call.status != "ended":
        return call.outcome
    if call.answered_at is None:
        return NOT_CONNECTED
    return VOICEMAIL if call.reason == "voicemail" else None
