"""The log of a call: what happened on it, in order."""

from __future__ import annotations

from anycarrier_server.store.models import CallEventRow
from anycarrier_server.store.statements import Rows

LOG = Rows(CallEventRow, ["call_id", "kind", "at", "payload"])
