"""What the adapters for agent frameworks share: agents made for each call, callbacks, and transfers told to a model."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from anycarrier.agent.agent import RawAgent
from anycarrier.audio import AudioFormat
from anycarrier.errors import (
    AnycarrierError,
    CallUnconfirmed,
    ConfigurationError,
    DestinationNotAllowed,
    InvalidNumber,
    LimitReached,
    NumberRejected,
    ProviderUnavailable,
    RateLimited,
    StoreUnavailable,
)
from anycarrier.session import MediaSession, check_handler
from anycarrier.sip import destination

log = logging.getLogger("anycarrier")

START_TIMEOUT = 10.0
"""Seconds that an agent may take to be made, and to start, while its caller hears nothing."""

SOONER = "Do what takes so long before the first call, or in a task beside the call."
"""What to do about a function of an app that takes longer."""


def require_callable(given: object, instead: str) -> None:
    """``ConfigurationError`` unless ``given`` can be called; ``instead`` says what to give."""
    if not callable(given):
        raise ConfigurationError(f"{_described(given)} cannot be called for each call. {instead}")


def factory_agent(
    factory: Callable[[MediaSession], Any],
    run: Callable[..., Awaitable[None]],
    *,
    makes: type | tuple[type, ...],
    instead: str,
    start_timeout: float = START_TIMEOUT,
    audio: AudioFormat | None = None,
) -> RawAgent:
    """An agent that handles each call by ``run(session, made)``, where ``made`` is what ``factory(session)`` returns.

        def bot_agent(factory):
            return factory_agent(factory, run_call, makes=Bot, instead="Give one: bot_agent(lambda session: Bot()).")

    ``factory`` may be a coroutine function; awaited in the task of the call for at most ``start_timeout`` seconds.
    ``makes`` is the type of what it returns. With several it returns a tuple of these, each an argument of ``run``.
    ``audio`` as in :func:`raw_agent`. ``ConfigurationError``, which ends with the sentence ``instead``, for what cannot
    be called with a session or is one of ``makes`` itself, and in the call (which ends with ``agent_error``) for what
    the factory should not have returned; ``TimeoutError`` in the call for what it has not returned in time.
    """
    require_callable(factory, instead)
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    types = makes if isinstance(makes, tuple) else (makes,)
    if factory in types:
        raise ConfigurationError(f"{name} is what the factory makes, not the factory. {instead}")
    if not _takes_one(factory):
        raise ConfigurationError(f"{name} cannot be called with one argument, the session. {instead}")

    @functools.wraps(factory, updated=())
    async def handle(session: MediaSession) -> None:
        made = await result_of(factory(session), start_timeout, name)
        each = made if isinstance(makes, tuple) else (made,)
        if not isinstance(each, tuple) or len(each) != len(types) or not all(map(isinstance, each, types)):
            wanted = ", ".join(wanted.__name__ for wanted in types)
            raise ConfigurationError(f"{name} returned {_described(made)}, where {wanted} is wanted. {instead}")
        await run(session, *each)

    return RawAgent(handle, audio)


def _takes_one(function: Callable[..., object]) -> bool:
    """Whether it can be called with one argument; True where that cannot be known."""
    try:
        parameters = inspect.signature(function, follow_wrapped=False)
    except ValueError:  # some that are written in C
        return True
    try:
        parameters.bind(object())
    except TypeError:
        return False
    return True


def _described(given: object) -> str:
    if isinstance(given, tuple):
        return f"({', '.join(map(_described, given))})"
    return "None" if given is None else type(given).__name__


async def result_of(returned: object, within: float | None = None, name: str = "") -> Any:
    """What a function of an app ``returned``, awaited where that can be: it may be a coroutine function or not.

    With ``within``, awaited for at most so many seconds: then ``TimeoutError``, which says the function's ``name``.
    """
    if not inspect.isawaitable(returned):
        return returned
    deadline = asyncio.timeout(within)
    try:
        async with deadline:
            return await returned
    except TimeoutError:
        if deadline.expired():
            raise TimeoutError(f"{name} has not returned within {within:g} s. {SOONER}") from None
        raise


async def call_back(callback: Callable[..., object] | None, *values: object) -> None:
    """Call an app's ``callback``, if it has one, and await what it returns where that can be.

    What it raises is logged, and the call goes on.
    """
    task = asyncio.current_task()
    try:
        await result_of(callback and callback(*values))
    except (Exception, asyncio.CancelledError) as failure:
        if isinstance(failure, asyncio.CancelledError) and (task is None or task.cancelling()):
            raise  # not by what it has awaited, but with the call
        log.exception("a callback of an agent failed, and its call goes on: %r", callback)


async def try_transfer(session: MediaSession, to: str, timeout: float = 60.0) -> str:
    """Let what was sent be heard, hand the caller to ``to``, and wait for the outcome: for the tool of a model.

    Returns "" once the target has the call or the call is over, else in words for the model why not; what a refusal
    advises whoever runs this is logged. ``timeout`` is seconds from when the carrier has taken the request.
    """
    try:
        destination(to)
        await session.drain()
        await session.transfer(to)
        if await session.wait_for_transfer(timeout) or session.ended:
            return ""
    except TimeoutError:
        return "The transfer goes on: the target still rings."
    except (AnycarrierError, StoreUnavailable, ValueError) as refused:
        log.warning("call %s was not transferred: %s", session.call.reference, refused)
        return f"The transfer was refused: {_for_a_model(refused)}"
    return "The transfer failed: nobody took the call. The caller is still with you."


def _for_a_model(refused: Exception) -> str:
    """Why, without what only an operator can do about it."""
    match refused:
        case InvalidNumber():
            return str(refused)
        case DestinationNotAllowed():
            return f"this target may not be called: {refused.why}. Do not try it again."
        case ProviderUnavailable() if refused.outcome_unknown:
            return "it is not known whether it was made. The target may ring: do not ask for it again."
        case NumberRejected():
            return "the carrier does not accept this number."
        case LimitReached() | RateLimited() | ProviderUnavailable() | CallUnconfirmed() | StoreUnavailable():
            return "it is not possible right now. Try again in a little while."
        case AnycarrierError():
            return "it is not possible on this call. Do not try it again."
    return str(refused)  # an app's own guard says why


def with_options(run: Callable[..., Awaitable[None]], **options: object) -> Callable[..., Awaitable[None]]:
    """``run`` with ``options`` of all its calls, for :func:`factory_agent`.

    ``ConfigurationError`` for an option that ``run`` has no default for, and for an ``on_...`` that cannot be called.
    """
    names = [each.name for each in inspect.signature(run).parameters.values() if each.default is not each.empty]
    for name, given in options.items():
        if name not in names:
            raise ConfigurationError(f"There is no option {name!r}: leave it out, or give one of {', '.join(names)}.")
        if name.startswith("on_") and given is not None:
            check_handler(given, name, "Give it a function, which may be a coroutine function.")
    return functools.partial(run, **options)
