"""/docs: the OpenAPI document as a page to read and try out. One file, no script or style from anywhere else."""

from __future__ import annotations

from importlib import resources

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A key is typed here: nothing comes from elsewhere, nothing goes elsewhere, and nobody puts the page in a frame."""


async def show(request: Request) -> Response:
    """The page; it fetches /openapi.json itself."""
    page = (resources.files("anycarrier_server") / "docs_page.html").read_text()
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})
