"""Asking a client's server what to do with an incoming call, while it rings.

Two contracts ask: an agent with the ``webhook`` action (answer, reject or ignore; anything wrong is a reject), and a
number with an ``inbound_webhook_url`` (accept or reject, another agent, variables; anything wrong is the number's own
agent). One request, signed, to the address the guard checked; never retried, because somebody is waiting.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from anycarrier.errors import AnycarrierError
from anycarrier_server.domain.agent_overrides import call_handling
from anycarrier_server.domain.request_data import read_json
from anycarrier_server.domain.resources import IncomingAsk, Resources
from anycarrier_server.encryption import inkbox_headers, oneinbox_headers
from anycarrier_server.store import public_id

NUMBER_HOOK_TIMEOUT = 3.0
LARGEST_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """``action`` is answer, reject or ignore; ``websocket_url`` takes the place of the agent's own."""

    action: str
    websocket_url: str | None = None


async def ask_agent(resources: Resources, ask: IncomingAsk) -> Verdict:
    """Ask the agent's ``incoming_call_webhook_url``."""
    agent = ask.agent
    write = resources.write_incoming
    handling = call_handling(agent, ask.line)
    url = handling.incoming_call_webhook_url
    if url is None or write is None:
        return Verdict("reject")
    body = json.dumps(await write(ask), separators=(",", ":")).encode()
    key = await resources.store.webhooks.signing_key(agent.workspace_id, agent.id)
    headers = inkbox_headers(key, str(uuid4()), int(time.time()), body) if key is not None else {}
    answer = await _post(resources, ask, url, body, headers, resources.settings.inbound_webhook_timeout, face="inkbox")
    action = answer.get("action")
    if action not in ("answer", "reject", "ignore"):
        return Verdict("reject")
    given = answer.get("client_websocket_url")
    if action == "answer" and isinstance(given, str) and given:
        try:
            await resources.url_guard.websocket(given)
        except AnycarrierError as refused:
            resources.store.writer.event(ask.call.id, "call.webhook_refused", {"error": str(refused)})
            return Verdict("reject")
        return Verdict(action, given)
    if action == "answer" and not handling.websocket_url:
        return Verdict("reject")
    return Verdict(action)


async def ask_number(resources: Resources, ask: IncomingAsk) -> dict[str, Any]:
    """Ask the number's ``inbound_webhook_url``; an empty dict for every failure."""
    url = ask.line.inbound_webhook_url
    if url is None:
        return {}
    fields = {
        "event": "call.incoming",
        "call_id": ask.call.public_id,
        "from": ask.call.from_number,
        "to": ask.call.to_number,
        "provider": ask.call.provider,
        "agent_id": public_id("agent", ask.agent.id),
    }
    body = json.dumps(fields, separators=(",", ":")).encode()
    secret, _ = await resources.store.webhooks.ensure_signing_key(ask.call.workspace_id)
    headers = oneinbox_headers(secret, f"evt_{uuid4()}", int(time.time()), body)
    return await _post(resources, ask, url, body, headers, NUMBER_HOOK_TIMEOUT, face="oneinbox")


async def _post(
    resources: Resources, ask: IncomingAsk, url: str, body: bytes, headers: dict[str, str], timeout: float, *, face: str
) -> dict[str, Any]:
    """The JSON object answered with a 2xx, else an empty one; either way it is in the delivery log."""
    started = time.monotonic()
    status, text, why, answer = None, None, None, {}
    try:
        async with (
            asyncio.timeout(timeout),
            resources.guarded_http.stream(
                "POST", url, content=body, headers={"Content-Type": "application/json", **headers}
            ) as response,
        ):
            status = response.status_code
            text = await _bounded(response)
        if not 200 <= status < 300:
            why = f"answered {status}"
        else:
            found = read_json(text, "answer")  # much of it is kept with the call
            if isinstance(found, dict):
                answer = found
            else:
                why = "the answer is not a JSON object"
    except TimeoutError:
        why = f"no answer within {timeout:g} s"
    except (httpx.HTTPError, httpx.InvalidURL, AnycarrierError, OSError, ValueError, RecursionError) as problem:
        why = str(problem) if isinstance(problem, AnycarrierError) else type(problem).__name__
    await resources.store.webhooks.log_synchronous(
        ask.call.workspace_id,
        line_id=ask.line.id,
        agent_id=ask.agent.id,
        call_id=ask.call.id,
        url=url,
        body=body.decode(),
        status=status,
        response=text.replace("\0", "") if text else text,
        error=why,
        duration_ms=round((time.monotonic() - started) * 1000),
        face=face,
        event_type="phone.incoming_call" if face == "inkbox" else "call.incoming",
    )
    return answer


async def _bounded(response: httpx.Response) -> str:
    kept = b""
    async for chunk in response.aiter_raw():
        kept += chunk
        if len(kept) > LARGEST_ANSWER:
            raise ValueError("the answer is too long")
    return kept.decode("utf-8", "replace")
