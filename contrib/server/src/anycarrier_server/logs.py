"""Logging of the service: for people, or one JSON object per line; in both, secrets and numbers are cut out.

The redactor works on the finished line, so that no library's message slips by it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time

from anycarrier.redaction import redact

MORE = re.compile(
    r"(?i)(?P<keep>(?:x-api-key|x-service-token)[\"']?\s*[:=]\s*[\"']?|signature=)[^\s@&\"']{6,}"
    r"|(?P<before>://[^/\s:@]+:)[^\s@\"']+(?=@)"
)
"""What ``redact`` does not know: our own headers, signed addresses, passwords in URLs."""

CONTROL = {code: f"\\u{code:04x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
"""Escaped, or what a stranger put into a path could look like a line of its own."""


def scrub(text: str) -> str:
    """``text`` without keys, tickets, passwords in addresses, and whole telephone numbers."""
    return redact(MORE.sub(lambda match: (match["keep"] or match["before"]) + "[secret]", text))


class Redacted(logging.Formatter):
    """Plain lines, scrubbed."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).translate(CONTROL)

    def format(self, record: logging.LogRecord) -> str:
        return scrub(super().format(record))


class JsonLines(logging.Formatter):
    """One object per line: ``at``, ``level``, ``logger``, ``message``, what the message was made of, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrub(record.getMessage()),
        }
        facts = getattr(record, "facts", None)
        if isinstance(facts, dict):
            line |= {name: scrub(value) if isinstance(value, str) else value for name, value in facts.items()}
        if record.exc_info:
            line["traceback"] = scrub(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str).translate(CONTROL)


def set_up(level: str, *, as_json: bool) -> None:
    """Send everything to standard error in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else Redacted())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their requests are ours to report, and carriers' addresses hold account ids.
    for chatty in ("httpx", "httpcore", "websockets", "uvicorn", "uvicorn.error", "aiosqlite", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
