"""An Asterisk server, played: ARI by REST and event socket, channels that ring and talk, and chan_websocket.

Written from Asterisk's documents, source and captures, not from the adapter, so that each checks the other. Numbers are
dialled on PJSIP endpoints; what becomes of such a call the number says (:data:`anycarrier.testing.sandbox_numbers`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import httpx

from anycarrier.credentials import Credential
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Delivery, Sandbox
from anycarrier_asterisk.sandbox.channels import Bridge, Channel, moment
from anycarrier_asterisk.sandbox.events import EventSocket
from anycarrier_asterisk.sandbox.media import MediaClient
from anycarrier_asterisk.sandbox.rest import build_app

if TYPE_CHECKING:
    from starlette.types import ASGIApp

ASTERISK_ID = "02:fc:00:00:00:01"


class AsteriskSandbox(Sandbox):
    """See the module. Besides those of every sandbox, quirks are ``late answers`` (REST answers after the events of
    what was asked for) and ``no destroyed`` (a caller's end is told by StasisEnd only, as with Local channels)."""

    provider: ClassVar[str] = "asterisk"

    version = "22.8.0"
    ring_seconds = 0.05
    """How long each step of ringing takes, where the callee takes no longer."""

    def __init__(self, *, base_url: str, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(base_url=base_url, http=http)
        self.passwords: dict[str, str] = {}
        """By user of ari.conf. Who is not here logs in with any password."""
        self.numbers: dict[str, str] = {}
        """Numbers that the dialplan sends to an application; "" to the first that is connected."""
        self.channels: dict[str, Channel] = {}
        self.bridges: dict[str, Bridge] = {}
        self.sockets: dict[str, EventSocket] = {}
        """By application: the one that hears."""
        self.clients: dict[str, MediaClient] = {"anycarrier": MediaClient("anycarrier", "ws://127.0.0.1:9/media")}
        """websocket_client.conf."""
        self.stored: dict[str, bytes] = {}
        """Recordings, once they are stopped."""
        self.live: dict[str, Channel] = {}
        """Recordings that go on, by name."""
        self.told: list[dict[str, Any]] = []
        """All events so far, heard or not."""
        self.after_answer: list[Callable[[], None]] = []
        """What is done once the request at hand has been answered."""
        self._made = 0
        self._epoch = int(time.time())
        self.app: ASGIApp = build_app(self)

    # --- the account ----------------------------------------------------------------------------------------------

    def credential(self, **overrides: Any) -> Credential:
        """A user and an application of their own each time, unless ``username`` and ``app`` name some."""
        from anycarrier_asterisk import AsteriskCredential

        token = secrets.token_hex(4)
        fields = {
            "username": f"user-{token}", "password": secrets.token_hex(8), "app": f"app-{token}",
            "endpoint": "PJSIP/{number}@trunk", **overrides,
        }  # fmt: skip
        credential = AsteriskCredential.model_validate(self.lead_here(fields))
        self.open_account(credential)
        return credential

    def lead_here(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"endpoint": "PJSIP/{number}@trunk", **fields, "base_url": self.base_url}

    def open_account(self, credential: Credential) -> None:
        name, held = getattr(credential, "username", None), credential.secrets()
        if name and held:
            self.passwords[name] = held[0]
        section = getattr(credential, "media_connection", "anycarrier")
        if section not in self.clients:
            self.clients[section] = MediaClient(section, self.clients["anycarrier"].uri)

    def add_number(self, number: str) -> None:
        self.numbers.setdefault(number, "")

    def give_number(self, number: str, credential: Credential) -> None:
        self.open_account(credential)
        self.numbers[number] = getattr(credential, "app", "")

    def point_webhooks(self, url: str) -> None:
        """Write our media socket into websocket_client.conf: ``/media`` beside the place of a carrier's webhooks."""
        parts = urlsplit(url)
        below = parts.path.rstrip("/").rsplit("/", 2)[0]
        for client in self.clients.values():
            client.uri = f"{parts.scheme.replace('http', 'ws')}://{parts.netloc}{below}/media"

    def sign(self, delivery: Delivery) -> Delivery:
        """Asterisk calls nobody, so nothing is signed."""
        raise NotImplementedError("asterisk sends no webhooks: there is nothing to sign")

    # --- calls ----------------------------------------------------------------------------------------------------

    async def ring(
        self, to: str, from_: str, *, said: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> FarEnd:
        """The dialplan: ``Stasis(APP,in,${EXTEN})``, and the headers behind it. Nobody connected: congestion."""
        if to not in self.numbers:
            raise LookupError(f"{to} is no number of this server's trunks: add_number() was not told of it")
        app = self.numbers[to] or next(iter(self.sockets), "")
        channel = self.channel(f"{self._epoch}.{self._count()}", "PJSIP/trunk", app, caller=from_, exten=to)
        channel.state, channel.context, channel.number = "Ring", "inbound", from_
        far_end = self._telephone(channel, from_, to, quiet="quiet" in self.quirks)
        channel.enters_stasis(["in", to, *(f"{name}={value}" for name, value in (headers or {}).items())])
        if said and not channel.over:
            self.start(far_end.say(said))
        return far_end

    def telephone_of(self, channel: Channel, from_: str, to: str) -> FarEnd:
        """The telephone that a channel of ours rings."""
        channel.number = to
        return self._telephone(channel, from_, to, quiet="quiet" in self.quirks)

    def _telephone(self, channel: Channel, from_: str, to: str, *, quiet: bool) -> FarEnd:
        async def hang_up() -> None:
            channel.hang_up(16, quietly="no destroyed" in self.quirks)

        channel.far_end = FarEnd(channel.id, from_, to, press=channel.press, hang_up=hang_up, silent=quiet)
        return self.connect(channel.far_end)

    def channel(self, name: str, technology: str, app: str, **fields: Any) -> Channel:
        """A new channel, with that id."""
        made = Channel(self, name, f"{technology}-{self._count():08x}", app, **fields)
        self.channels[name] = made
        return made

    def new_id(self) -> str:
        """A unique id of Asterisk's own."""
        return f"{self._epoch}.{self._count()}"

    def _count(self) -> int:
        self._made += 1
        return self._made

    # --- events ---------------------------------------------------------------------------------------------------

    def tell(self, app: str, kind: str, **fields: Any) -> None:
        """Send an event to the application's socket; without one it is lost."""
        event = {"type": kind, "timestamp": moment(), **fields, "asterisk_id": ASTERISK_ID, "application": app}
        self.told.append(event)
        if (socket := self.sockets.get(app)) is not None:
            socket.send(event)

    def drop_events(self, app: str) -> None:
        """The network loses the application's event socket."""
        if (socket := self.sockets.pop(app, None)) is not None:
            socket.breaks()

    async def aclose(self) -> None:
        for channel in [*self.channels.values()]:
            channel.over = True
            if channel.limit is not None:
                channel.limit.cancel()
        await super().aclose()
