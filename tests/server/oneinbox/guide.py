"""The guide's own requests, as its readers paste them, and a way to run such a line: by curl, or by httpx.

The numbers are the guide's, since the claim is that its lines work as they stand; here they ring a sandbox.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from dataclasses import dataclass
from typing import Any

import httpx

HOST = "https://api.oneinbox.ai"

CREDENTIAL = """\
curl -X POST https://api.oneinbox.ai/v1/credentials \\
  -H "Authorization: Bearer <api_key>" \\
  -H "Content-Type: application/json" \\
  -d '{
    "name": "My Carrier",
    "provider": "twilio",
    "api_key": "<your_provider_api_key>"
  }'
"""

REGISTER = """\
curl -X POST https://api.oneinbox.ai/v1/phone-numbers \\
  -H "Authorization: Bearer <api_key>" \\
  -H "Content-Type: application/json" \\
  -d '{
    "phone_number": "+15739693824",
    "friendly_name": "Sales Line",
    "provider": "twilio",
    "agent_id": "<agent_id>",
    "credential_id": "<crd_abc123>"
  }'
"""

CALL = """\
curl -X POST https://api.oneinbox.ai/v1/calls \\
  -H "Authorization: Bearer <api_key>" \\
  -H "Content-Type: application/json" \\
  -d '{
    "agent_id": "<agent_id>",
    "to_number": "+919876543210",
    "from_number": "+15739693824",
    "variables": { "customer_name": "Sama", "order_id": "ORD-001" },
    "webhook_url": "https://your-server.com/per-call-webhook"
  }'
"""

STOP = """\
curl -X POST https://api.oneinbox.ai/v1/calls/<call_id>/stop \\
  -H "Authorization: Bearer <api_key>"
"""

FETCH = """\
curl https://api.oneinbox.ai/v1/calls/<call_id> \\
  -H "Authorization: Bearer <api_key>"
"""

REASSIGN = """\
curl -X PATCH https://api.oneinbox.ai/v1/phone-numbers/<phone_id> \\
  -H "Authorization: Bearer <api_key>" \\
  -H "Content-Type: application/json" \\
  -d '{ "agent_id": "<new_agent_id>" }'
"""

SEARCH = """\
curl "https://api.oneinbox.ai/v1/phone-numbers/search?country=US&area_code=415&limit=10" \\
  -H "Authorization: Bearer <api_key>"
"""

SERVED_NUMBER = "+15739693824"
CALLED_NUMBER = "+919876543210"


@dataclass
class Reader:
    """Somebody who follows the guide: puts the placeholders' values in, and the server's address, and nothing else.

    ``twilio`` is the guide's own choice of carrier; a reader with another writes that one's name.
    """

    origin: str
    provider: str
    curl: bool
    values: dict[str, str]

    def fill(self, line: str) -> str:
        text = line.replace(HOST, self.origin).replace('"provider": "twilio"', f'"provider": "{self.provider}"')
        for name, value in self.values.items():
            text = text.replace(f"<{name}>", value)
        assert "<" not in text, f"a placeholder is left in {text}"
        return text

    async def run(self, line: str) -> tuple[int, Any]:
        """Status and JSON."""
        words = shlex.split(self.fill(line).replace("\\\n", " "))
        return await (self._curl(words) if self.curl else self._httpx(words))

    async def _curl(self, words: list[str]) -> tuple[int, Any]:
        process = await asyncio.create_subprocess_exec(
            *words, "-sS", "--noproxy", "*", "-w", "\n%{http_code}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, said = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, said.decode()
        body, _, status = out.decode().rpartition("\n")
        return int(status), json.loads(body)

    async def _httpx(self, words: list[str]) -> tuple[int, Any]:
        method, url, headers, data = "GET", "", {}, None
        rest = iter(words[1:])
        for word in rest:
            match word:
                case "-X":
                    method = next(rest)
                case "-H":
                    name, _, value = next(rest).partition(": ")
                    headers[name] = value
                case "-d":
                    data = next(rest)
                case _:
                    url = word
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            response = await client.request(method, url, headers=headers, content=data)
        return response.status_code, response.json()
