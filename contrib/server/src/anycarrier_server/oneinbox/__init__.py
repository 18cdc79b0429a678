"""The OneInbox face: ``/v1`` as its clients know it. It only translates to and from ``anycarrier_server.domain``.

Shapes of the vendor's guide are served as they stand; the spellings of its other pages are read too.
"""

from __future__ import annotations

from anycarrier_server.http.endpoints import Face
from anycarrier_server.oneinbox import account_routes, agent_routes, call_routes, number_routes, webhook_routes
from anycarrier_server.oneinbox.call_bodies import style
from anycarrier_server.oneinbox.errors import ErrorBody, refuse

FACE = Face(
    name="oneinbox",
    prefix="/v1",
    title="OneInbox: bring your own carrier",
    endpoints=[
        *account_routes.ENDPOINTS,
        *number_routes.ENDPOINTS,
        *call_routes.ENDPOINTS,
        *agent_routes.ENDPOINTS,
        *webhook_routes.ENDPOINTS,
    ],
    refuse=refuse,
    error=ErrorBody,
    style=style,
)
