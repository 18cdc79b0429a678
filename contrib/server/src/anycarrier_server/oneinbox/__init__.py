"""The OneInbox face: ``/v1`` as its clients know it. It translates; what is done, ``server/domain`` does.

Shapes of the vendor's guide are served as they stand; the spellings of its other pages are read too.
"""

from __future__ import annotations

from anycarrier_server.endpoints import Face
from anycarrier_server.oneinbox import agents, call_actions, call_messages, calls, credentials, numbers, usage, webhooks
from anycarrier_server.oneinbox.errors import ErrorBody, refuse
from anycarrier_server.oneinbox.event_bodies import style

FACE = Face(
    name="oneinbox",
    prefix="/v1",
    title="OneInbox: bring your own carrier",
    endpoints=[
        *credentials.ENDPOINTS,
        *numbers.ENDPOINTS,
        *call_messages.ENDPOINTS,
        *calls.ENDPOINTS,
        *call_actions.ENDPOINTS,
        *agents.ENDPOINTS,
        *webhooks.ENDPOINTS,
        *usage.ENDPOINTS,
    ],
    refuse=refuse,
    error=ErrorBody,
    style=style,
)
