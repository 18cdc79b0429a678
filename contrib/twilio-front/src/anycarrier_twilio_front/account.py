"""The account at Twilio that a bot believes to have, whichever front it is behind."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from anycarrier.errors import ConfigurationError
from anycarrier_twilio.carrier_side.twiml import Instructions, Verb
from anycarrier_twilio_front.callbacks import BotError, BotRequests, Hosts
from anycarrier_twilio_front.calls import FrontCall

log = logging.getLogger("anycarrier.twilio_front")


WAITING = 10_000
"""Requests that may wait for a bot that does not answer its callbacks."""


def require_secret(name: str, given: object) -> None:
    """``ConfigurationError``, without what was ``given``, for a secret that anybody could log in with."""
    if not isinstance(given, str) or not given.strip():
        what = "is empty" if isinstance(given, str) else f"must be a str, not {_type(given)}"
        raise ConfigurationError(
            f"{name} {what}: give the secret that the bot has in its settings, such as one of secrets.token_hex(16). "
            "If you read it from an environment variable, check that it is set"
        )


def _require_account(given: object) -> None:
    if not isinstance(given, str) or not re.fullmatch("AC[0-9a-fA-F]{32}", given):
        what = "" if isinstance(given, str) else f", not {_type(given)}"
        raise ConfigurationError(
            f"account_sid must be AC and 32 hex digits{what}: give the one that the bot has in its settings, such as "
            "'AC' + secrets.token_hex(16). If you read it from an environment variable, check that it is set"
        )


def _type(given: object) -> str:
    return "None" if given is None else type(given).__name__


class VerbCheck(Protocol):
    """Raises ``TwimlError`` for a verb that cannot be played."""

    def check(self, verb: Verb) -> None: ...


class BotAccount:
    """What the bot has in its settings, where it is asked, and what it is told."""

    speech: VerbCheck

    def __init__(
        self,
        *,
        account_sid: str,
        auth_token: str,
        voice_url: str,
        voice_method: str = "POST",
        fallback_url: str = "",
        hosts: Iterable[str] = (),
    ) -> None:
        _require_account(account_sid)
        require_secret("auth_token", auth_token)
        self.account_sid = account_sid
        self.auth_token = auth_token
        self.hosts = Hosts(voice_url, hosts)
        if voice_method not in ("GET", "POST"):
            raise ConfigurationError('voice_method must be "POST" or "GET"')
        if fallback_url:
            self.hosts.require("fallback_url", fallback_url)
        fallback = Instructions(fallback_url) if fallback_url else None
        self.voice = Instructions(voice_url, voice_method, fallback=fallback)
        self.requests = BotRequests(auth_token, self.hosts)
        self._posts: set[asyncio.Task[None]] = set()
        self._closed = False

    def post(self, call: FrontCall, url: str, form: Mapping[str, str], method: str = "POST") -> None:
        """Tell the bot, after what it was told of the call before. Nobody waits for it."""
        if self._closed:
            return
        if len(self._posts) >= WAITING:
            self.complain(call, BotError(11205, f"{WAITING} requests wait for the bot's answers: one more is not made"))
            return
        before = call.posting

        async def posted() -> None:
            if before is not None:
                await asyncio.wait({before})
            try:
                await self.requests.send(url, form, method)
            except BotError as failure:
                self.complain(call, failure)

        call.posting = task = asyncio.get_running_loop().create_task(posted())
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    def post_action(self, call: FrontCall, action: Instructions) -> None:
        """Ask an action URL whose answer has no call to run on any more."""
        self.post(call, action.url, {**call.form(), **action.params}, action.method)

    def fall_back(self, call: FrontCall, failed: Instructions, failure: BotError) -> Instructions:
        """What runs in place of ``failed``: the call's fallback, which is told why. Raises ``failure`` where there is
        none, or where it is the fallback that has failed."""
        fallback = call.instructions.fallback
        if fallback is None or failed.url == fallback.url:
            raise failure
        self.complain(call, failure)
        blame = {"ErrorCode": str(failure.code), "ErrorUrl": failed.url}
        return replace(fallback, params={**failed.params, **blame})

    def complain(self, call: FrontCall, problem: BotError) -> None:
        """Say what is wrong with a bot, as Twilio's debugger would."""
        log.warning("call %s of account %s: %s", call.sid, self.account_sid, problem)

    async def aclose(self) -> None:
        """Close the connections to the bot. What it has not been told yet is not posted any more."""
        self._closed = True
        for task in list(self._posts):
            task.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)
        await self.requests.aclose()
