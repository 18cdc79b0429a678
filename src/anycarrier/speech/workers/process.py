"""The main loop of a worker process: ``python -m your_engine.worker`` calls :func:`serve`.

The worker reads messages from its standard input and ends when that ends, so it never outlives the process that
started it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import BinaryIO, NoReturn, Protocol

from anycarrier.errors import AnycarrierError
from anycarrier.speech.workers.messages import FromWorker, Ready, ToWorker, Unusable, packed, read_message

Send = Callable[[FromWorker], None]
"""Sends a message to the engine; may be called from any thread."""


class Handler(Protocol):
    """What a worker does. ``take`` is called for each message, in order, in the main thread."""

    def take(self, message: ToWorker) -> None:
        """Do what the message says. While this runs, no other message is read."""
        ...


def serve(make: Callable[[Send], Handler], *, niceness: int = 0) -> NoReturn:
    """Serve until the input ends, then end the process, with all its threads.

    ``make`` loads what the worker needs; import heavy libraries there. If it raises, the engine gets the reason, and no
    other worker is started in its place. Give the message of a ``ValueError`` or ``AnycarrierError`` a next step: it is
    shown as it is. ``niceness`` lets other processes on the core, such as the one that carries the audio, go first.
    """
    # Ctrl-C, and a stop signal to the whole process group, reach workers too; but calls go on while the parent drains.
    # The worker ends when the parent has closed the pipe.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    if niceness and hasattr(os, "nice"):
        os.nice(niceness)
    # Libraries print to standard output; from here on that is standard error, and the messages have the pipe alone.
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    _end(_run(make, sys.stdin.buffer, pipe))


def _run(make: Callable[[Send], Handler], incoming: BinaryIO, outgoing: BinaryIO) -> int:
    lock = threading.Lock()

    def send(message: FromWorker) -> None:
        left = memoryview(packed(message))
        with lock:
            while left:  # an unbuffered pipe may take less than it was given
                left = left[outgoing.write(left) :]

    try:
        try:
            handler = make(send)
        except (AnycarrierError, ValueError) as failure:
            send(Unusable(str(failure)))
            return 1
        except Exception as failure:  # noqa: BLE001 - the engine has to say why it does not start
            traceback.print_exc()
            send(Unusable(f"{type(failure).__name__}: {failure}"))
            return 1
        send(Ready())
        while (message := read_message(incoming)) is not None:
            handler.take(message)
    except BrokenPipeError:
        pass  # nobody is left to tell
    except Exception:  # noqa: BLE001 - the engine sees the worker end and starts another
        traceback.print_exc()
        return 1
    return 0


def _end(status: int) -> NoReturn:
    """End now: threads inside a library may not be interrupted, and nothing here needs to be cleaned up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
