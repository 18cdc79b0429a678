"""The guide's own requests, as its readers paste them, and a way to run such a line: by curl, or by httpx.

The numbers are the guide's, since the claim is that its lines work as they stand; here they ring a sandbox.
"""

from __future__ import annotations

import asyncio
import json
import re
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

LINES = (CREDENTIAL, REGISTER, CALL, STOP, FETCH, REASSIGN, SEARCH)
"""All that the guide has its readers paste."""

CREDENTIAL_ANSWER = """\
{
  "id": "crd_abc123",
  "name": "My Carrier",
  "provider": "twilio"
}
"""

NUMBER_ANSWER = """\
{
  "id": "phn_abc123",
  "phone_number": "+15739693824",
  "agent_id": "agt_abc123",
  "status": "active"
}
"""

CALL_ANSWER = """\
{
  "id": "call_abc123",
  "status": "initiated",
  "to_number": "+919876543210",
  "from_number": "+15739693824"
}
"""

RECORD = """\
{
  "id": "call_abc123",
  "status": "completed",
  "duration_seconds": 87,
  "messages": [
    { "role": "agent", "content": "Hi Sama! This is Aria from Acme." },
    { "role": "user",  "content": "Oh hi, yes I've been expecting your call." }
  ],
  "analysis": {
    "outcome": "Appointment Booked",
    "summary": "Caller agreed to a product demo on Thursday at 3pm."
  },
  "recording_url": "https://storage.oneinbox.ai/recordings/call_abc123.mp3"
}
"""

ANSWERS = (CREDENTIAL_ANSWER, NUMBER_ANSWER, CALL_ANSWER, RECORD)
"""What the guide says comes back."""

SERVED_NUMBER = "+15739693824"
CALLED_NUMBER = "+919876543210"


def unlike(shown: str, answer: Any) -> list[str]:
    """Where ``answer`` has not the keys, the types or the look of ids that the guide shows; values may differ."""
    return differences(json.loads(shown), answer, "answer")


def differences(shown: Any, answer: Any, where: str) -> list[str]:
    if isinstance(shown, dict) and isinstance(answer, dict):
        lacking = [f"{where}.{name} is missing" for name in shown if name not in answer]
        both = [name for name in shown if name in answer]
        return lacking + [one for name in both for one in differences(shown[name], answer[name], f"{where}.{name}")]
    if isinstance(shown, list) and isinstance(answer, list):
        return [one for i, item in enumerate(answer) for one in differences(shown[0], item, f"{where}[{i}]")]
    if isinstance(shown, str) and isinstance(answer, str):
        prefix = re.match(r"[a-z]+_(?=abc123$)", shown)
        return [] if prefix is None or answer.startswith(prefix[0]) else [f"{where} is {answer}, not like {shown}"]
    alike = type(shown) is type(answer) or {type(shown), type(answer)} <= {int, float}
    return [] if alike else [f"{where} is {answer!r}, not like {shown!r}"]


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
