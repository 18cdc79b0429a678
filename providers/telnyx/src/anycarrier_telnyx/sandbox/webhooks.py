"""The carrier's webhooks: envelope, Ed25519 signature, and trying again when nobody takes them.

A retry keeps the event's id, counts ``meta.attempt`` up and is signed anew, since its body is another one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
from nacl.signing import SigningKey

from anycarrier.testing.sandbox import Delivery, Starter, WebhookSender

RETRY_DELAYS = (0.1, 0.3, 0.6)
"""Seconds before each further try; the carrier takes longer, a test should not."""


def moment(at: datetime | None = None) -> str:
    """UTC with microseconds, as the carrier writes times."""
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def envelope(kind: str, payload: Mapping[str, Any], *, url: str, version: str = "2") -> dict[str, Any]:
    """What is posted for one event. Version 1 is the old shape an application sends unless told otherwise."""
    event = {"record_type": "event", "event_type": kind, "id": str(uuid.uuid4())}
    meta = {"attempt": 1, "delivered_to": url}
    if version == "1":
        old = {**payload, "occurred_at": moment()}
        return {**event, "event_type": kind.replace(".", "_"), "created_at": moment(), "payload": old, "meta": meta}
    return {"data": {**event, "occurred_at": moment(), "payload": dict(payload)}, "meta": meta}


def event_id(delivery: Delivery) -> str:
    """The event's id, the same in every try."""
    message = delivery.params
    return str(message.get("data", message).get("id", ""))


def pack(message: Mapping[str, Any]) -> bytes:
    """The body's bytes; these, and no re-written JSON, are what is signed."""
    return json.dumps(message, separators=(",", ":")).encode()


def signature_headers(key: SigningKey, body: bytes, timestamp: int | None = None) -> dict[str, str]:
    """The headers of a webhook: Ed25519 over ``timestamp|body``."""
    stamp = str(int(time.time()) if timestamp is None else timestamp)
    signature = key.sign(stamp.encode() + b"|" + body).signature
    return {
        "content-type": "application/json",
        "user-agent": "telnyx-webhooks",
        "telnyx-timestamp": stamp,
        "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
    }


class RetryingSender(WebhookSender):
    """Posts, and posts again after a redirect, 408, 429, 5xx or silence; any other refusal is final."""

    def __init__(
        self, http: httpx.AsyncClient, start: Starter, quirks: set[str], sign: Callable[[Delivery], Delivery]
    ) -> None:
        super().__init__(http, start, quirks)
        self._sign = sign
        self._begin = start
        self.policies: dict[str, tuple[float, ...]] = {}
        """Seconds before each retry by event id, where the call asked for its own."""
        self.failovers: dict[str, str] = {}
        """Where to try once more when all tries failed, by event id."""

    async def post(self, delivery: Delivery) -> Delivery:
        await super().post(delivery)
        if not delivery.accepted and _worth_retrying(delivery.status):
            attempt = int(delivery.params["meta"]["attempt"])
            delays = self.policies.get(event_id(delivery), RETRY_DELAYS)
            failover = self.failovers.get(event_id(delivery), "")
            if attempt <= len(delays):
                self._begin(self._retry(delivery, attempt + 1, delays[attempt - 1], delivery.url))
            elif failover and delivery.url != failover:
                self._begin(self._retry(delivery, attempt + 1, 0.0, failover))
        return delivery

    async def _retry(self, delivery: Delivery, attempt: int, delay: float, url: str) -> None:
        await asyncio.sleep(delay)
        message = {**delivery.params, "meta": {"attempt": attempt, "delivered_to": url}}
        again = delivery.again(url=url, params=message, body=pack(message))
        await self.post(self._sign(again))


def _worth_retrying(status: int | None) -> bool:
    return status is None or 300 <= status < 400 or status in (408, 429) or status >= 500
