"""What suits a process that serves calls: logging, wake-ups, garbage collection and open files.

Logs are for people, or one JSON object per line. The redactor works on the finished line, so that no library's message
slips past it.

To be woken for a frame costs more than to relay it: at 100 calls 24 µs of CPU for each, and 13 when those that came
within a millisecond are taken together (docs/benchmarks.md). Network cards do the same and call it interrupt
coalescing. A loop that always has work is left alone, and so is one with a request at hand: that goes from socket to
database and back a dozen times, and would be a millisecond late each time. With few calls coalescing costs more than it
saves, so there is none.

A full garbage collection stops every call of the process. Measured with 400 live calls it took 54 to 74 ms, which
everybody hears, and came while calls were being set up; passing sound makes no garbage of that kind. So full
collections happen when no call is up, and otherwise seldom. The setting is the process's: only ``serve`` adopts it.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable

from anycarrier.redaction import redact

TICK = 0.001
"""Seconds from one look to the next: a twentieth of a frame, which nobody hears."""

MANY = 24
"""Live calls from which on it pays: it did at 20, and at 10 it did not."""

IDLE = 0.00005
"""A round of the loop shorter than this, in seconds, had nothing to do."""

BREAK = 0.005
"""Seconds without looks once a request was seen; then it may be over."""

COUNT_EVERY = 1.0
"""Seconds between counts of the calls."""


class Coalescer:
    """``live`` tells how many calls are up, ``busy`` whether the loop has a request at hand.

    From :meth:`start` to :meth:`stop`; the loop is the running one.
    """

    def __init__(
        self,
        live: Callable[[], int],
        busy: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._live = live
        self._busy = busy
        self._clock = clock
        self._sleep = sleep
        self._timer: asyncio.TimerHandle | None = None
        self._next: asyncio.Handle | None = None
        self._due = 0.0
        self._last = 0.0

    @property
    def looking(self) -> bool:
        """Whether wake-ups are being saved just now."""
        return self._next is not None

    def start(self) -> None:
        """Count the calls, and look when there are many, until :meth:`stop`."""
        self._loop = asyncio.get_running_loop()
        self.count()

    def stop(self) -> None:
        """The loop is woken by every frame again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def count(self) -> None:
        """Begin or end, as many calls as there are."""
        many = self._live() >= MANY
        if many is not self.looking:
            self.stop()
            self._next = self._loop.call_soon(self._round) if many else None
        self._timer = self._loop.call_later(COUNT_EVERY, self.count)

    def _round(self) -> None:
        """Once in every round of the loop, which therefore never waits for its sockets: the waiting is done here."""
        if self._busy():
            self._next = self._loop.call_later(BREAK, self._round)
            return
        now = self._clock()
        if now - self._last < IDLE:
            self._sleep(self._due - now if self._due > now else TICK)
            now = self._clock()
            self._due = now + TICK
        self._last = now
        self._next = self._loop.call_soon(self._round)


COLLECT_EVERY = 5.0
"""Seconds between looks whether the moment is quiet."""

LONGEST = 600.0
"""Seconds after which a full collection is due, calls or not: what a call leaves behind must not pile up for ever."""

YOUNG = (50_000, 50, 1_000_000)
"""Thresholds while this runs: young objects are still looked at now and then, all of them only when we say so."""


class QuietCollector:
    """``live`` tells how many calls are up. From :meth:`start` to :meth:`stop`, which puts everything back."""

    def __init__(self, live: Callable[[], int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.collections = 0
        """Full collections so far."""
        self._live = live
        self._clock = clock
        self._last = clock()
        self._talked = False
        self._before: tuple[int, int, int] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """What is there now will stay: it is set aside and never looked at again."""
        if self._before is not None:
            return
        self._before = gc.get_threshold()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*YOUNG)
        self._wait()

    def stop(self) -> None:
        """As it was."""
        if self._timer is not None:
            self._timer.cancel()
        if self._before is not None:
            gc.unfreeze()
            gc.set_threshold(*self._before)
            self._before = None

    def look(self) -> bool:
        """Collect if this is the moment for it; whether it was."""
        live = self._live()
        self._talked |= live > 0
        if not (self._talked and live == 0) and self._clock() - self._last < LONGEST:
            return False
        gc.collect()
        self.collections += 1
        self._last, self._talked = self._clock(), False
        return True

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(COLLECT_EVERY, self._due)

    def _due(self) -> None:
        self.look()
        self._wait()


log = logging.getLogger("anycarrier")

LOOK_EVERY = 5.0
SAY_EVERY = 60.0
SPARE = 16
"""With fewer left than this, new connections and files fail any moment."""


async def watch_open_files() -> None:
    """Look now and then, for ever; at most one line a minute."""
    said = float("-inf")
    clock = asyncio.get_running_loop().time
    while True:
        limit = few_files_left()
        if limit and clock() - said >= SAY_EVERY:
            said = clock()
            log.error(
                "out of files: nearly all of the %d that this process may open are in use, so new connections are "
                "refused. Raise the limit (ulimit -n, LimitNOFILE=), or look for who holds so many connections",
                limit,
            )
        await asyncio.sleep(LOOK_EVERY)


def few_files_left() -> int | None:
    """The limit when it is all but reached; None when it is not, or where nobody can tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError as problem:
        return limit if problem.errno == errno.EMFILE else None
    return limit if used > limit - SPARE else None


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


def set_up_logging(level: str, *, as_json: bool) -> None:
    """Send everything to standard error in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else Redacted())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their requests are ours to report, and carriers' addresses hold account ids.
    for chatty in ("httpx", "httpcore", "websockets", "uvicorn", "uvicorn.error", "aiosqlite", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
