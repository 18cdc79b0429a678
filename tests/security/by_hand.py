"""The carrier played by hand, from outside: signed webhooks, media sockets, and everything a forger would try.

Twilio's wire, since a single message of it is a whole announcement; both carriers' signatures are tried elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

ADMIN = "ApiKey_an-admin-key-that-only-these-tests-know"
SID = "AC" + "5" * 32
SECRET = "the-auth-token-that-nobody-may-see"
OURS, CALLER = "+14155550101", "+12125550142"
ABROAD = "+442079460123"
STREAM = "MZ" + "7" * 32


def sign(url: str, params: dict[str, str], secret: str = SECRET) -> str:
    """The signature of a webhook, written from the carrier's page."""
    text = url + "".join(key + params[key] for key in sorted(params))
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), hashlib.sha1)).decode()


def new_call() -> str:
    """A call id nobody has used."""
    return "CA" + uuid4().hex


@dataclass
class ByHand:
    """One installation, and what a carrier or a stranger does to it."""

    origin: str
    credential: str
    log: Path | None = None
    admin: dict[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {ADMIN}"})
    agent: str = ""

    def equip(self, http: httpx.Client) -> None:
        """A credential with a secret of ours, an agent and a number."""
        sent = {"name": "mine", "provider": "twilio", "api_key": f"{SID}:{SECRET}"}
        made = http.post("/v1/credentials", json=sent)
        assert made.status_code == 201, made.text
        self.credential = made.json()["id"]
        self.agent = http.post("/v1/agents", json={"name": "Aria"}).json()["id"]
        line = {"phone_number": OURS, "provider": "twilio", "agent_id": self.agent, "credential_id": self.credential}
        added = http.post("/v1/phone-numbers", json=line)
        assert added.status_code == 201 and added.json()["status"] == "active", added.text

    @property
    def webhook(self) -> str:
        """Where the carrier posts."""
        return f"{self.origin}/twilio/{self.credential}"

    async def post(self, params: dict[str, str], *, headers: dict[str, str] | None = None) -> httpx.Response:
        """A form as it stands, signed only when the headers say so."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            return await http.post(self.webhook, content=urlencode(params), headers={**kind, **(headers or {})})

    async def announce(self, call_id: str, **more: str) -> httpx.Response:
        """Somebody rings: the signed webhook."""
        params = self.announcement(call_id, **more)
        return await self.post(params, headers={"X-Twilio-Signature": sign(self.webhook, params)})

    def announcement(self, call_id: str, **more: str) -> dict[str, str]:
        """What it says."""
        return {"CallSid": call_id, "AccountSid": SID, "From": CALLER, "To": OURS, "Direction": "inbound",
                "CallStatus": "ringing", "ApiVersion": "2010-04-01", **more}  # fmt: skip

    async def ticket(self, call_id: str) -> str:
        """Ring and take the ticket out of the answer."""
        answer = await self.announce(call_id)
        found = ticket_in(answer)
        assert found, f"{answer.status_code} {answer.text}"
        return found

    def media(self, rest: str) -> str:
        """The media socket's address."""
        return f"ws{self.origin.removeprefix('http')}/media{rest}"

    async def knock(self, rest: str) -> int:
        """The HTTP status an upgrade of ``/media<rest>`` gets; 101 when it is let in."""
        try:
            socket = await connect(self.media(rest), open_timeout=30, proxy=None)
        except InvalidStatus as refused:
            return refused.response.status_code
        await socket.close()
        return 101

    async def stream(self, ticket: str, call_id: str) -> ClientConnection:
        """Let in with a ticket, and said whose call this is."""
        socket = await connect(self.media(f"/{ticket}"), open_timeout=30, proxy=None)
        start: dict[str, Any] = {
            "accountSid": SID, "streamSid": STREAM, "callSid": call_id, "tracks": ["inbound"], "customParameters": {},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }  # fmt: skip
        await socket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        await socket.send(json.dumps({"event": "start", "sequenceNumber": "1", "streamSid": STREAM, "start": start}))
        return socket


def ticket_in(answer: httpx.Response) -> str:
    """The ticket in an announcement's answer; nothing when it was refused."""
    found = re.search(r"/media/([\w-]+)", answer.text)
    return found[1] if found else ""


async def stays_open(socket: ClientConnection, seconds: float = 1.0) -> bool:
    """False when the other side closes within ``seconds``; what it says meanwhile is ignored."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                await socket.recv()
    except TimeoutError:
        return True
    except ConnectionClosed:
        return False
