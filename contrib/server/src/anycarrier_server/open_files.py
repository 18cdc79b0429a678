"""A line in the log when this process runs out of files it may open: else connections are refused in silence."""

from __future__ import annotations

import asyncio
import errno
import logging
import os

log = logging.getLogger("anycarrier")

LOOK_EVERY = 5.0
SAY_EVERY = 60.0
SPARE = 16
"""With fewer left than this, new connections and files fail any moment."""


async def watch() -> None:
    """Look now and then, for ever; at most one line a minute."""
    said = float("-inf")
    clock = asyncio.get_running_loop().time
    while True:
        limit = few_left()
        if limit and clock() - said >= SAY_EVERY:
            said = clock()
            log.error(
                "out of files: nearly all of the %d that this process may open are in use, so new connections are "
                "refused. Raise the limit (ulimit -n, LimitNOFILE=), or look for who holds so many connections",
                limit,
            )
        await asyncio.sleep(LOOK_EVERY)


def few_left() -> int | None:
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
