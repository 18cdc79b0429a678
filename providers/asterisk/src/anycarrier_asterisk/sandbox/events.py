"""The event socket: ``/ari/events?app=APP``. A second one of an application takes over; the first is told, and deaf."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

if TYPE_CHECKING:
    from anycarrier_asterisk.sandbox.server import AsteriskSandbox


class EventSocket:
    """One socket, and the application that it stands for."""

    def __init__(self, server: AsteriskSandbox, app: str, websocket: WebSocket) -> None:
        self.server, self.app, self._websocket = server, app, websocket
        self._out: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def send(self, event: dict[str, Any]) -> None:
        self._out.put_nowait(event)

    def breaks(self) -> None:
        """Close it from our side."""
        self._out.put_nowait(None)

    async def run(self) -> None:
        """Until either side closes; then the application is gone, unless another socket has taken it over."""
        if (before := self.server.sockets.get(self.app)) is not None:
            self.server.tell(self.app, "ApplicationReplaced")
        self.server.sockets[self.app] = self
        writing = asyncio.create_task(self._write())
        try:
            while True:
                await self._websocket.receive_text()
        except (WebSocketDisconnect, RuntimeError, KeyError):
            pass
        finally:
            del before
            writing.cancel()
            if self.server.sockets.get(self.app) is self:
                del self.server.sockets[self.app]

    async def _write(self) -> None:
        while (event := await self._out.get()) is not None:
            await self._websocket.send_text(json.dumps(event))
        await self._websocket.close()


async def refuse(websocket: WebSocket, status: int, message: str) -> None:
    """Answer the handshake with an HTTP status."""
    await websocket.send_denial_response(JSONResponse({"message": message}, status_code=status))
