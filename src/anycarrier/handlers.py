"""What is given as the handler of calls: refused if it cannot be one, and in the call if it does not act as one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

from anycarrier.errors import ConfigurationError

Subject = TypeVar("Subject")


def check_handler(given: object, what: str, instead: str = "Give a function: async def front_desk(session).") -> None:
    """``ConfigurationError`` unless ``given`` can be called; ``what`` it was given as, and what to give ``instead``."""
    if not callable(given):
        raise ConfigurationError(f"{what} is of type {type(given).__name__}, which cannot be called. {instead}")


MAKE_IT_ASYNC = (
    "Write it as async def. One that makes a framework's agent is wrapped by the adapter's function: "
    "agents=..._agent(front_desk)."
)


async def run_handler(
    handler: Callable[[Subject], Awaitable[None]], subject: Subject, instead: str = MAKE_IT_ASYNC
) -> None:
    """Call ``handler`` and await what it returns. ``ConfigurationError``, which ends with the sentence ``instead``, if
    it cannot be called, or returns what cannot be awaited."""
    check_handler(handler, "the handler", instead)
    returned: object = handler(subject)
    if not inspect.isawaitable(returned):
        name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
        came = "None" if returned is None else type(returned).__name__
        raise ConfigurationError(f"{name} returned {came}, not an awaitable that handles the call. {instead}")
    await returned
