"""A bot's TwiML: fetched with a signed form, read into verbs, and refused where it cannot be run."""

from __future__ import annotations

from dataclasses import dataclass

from anycarrier_twilio.twiml import Verb


class BotError(Exception):
    """What the bot did wrong, with Twilio's code for it: the call ends, unless the verb goes on without it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Document:
    """The verbs to run, in order, and the URL they came from, which relative URLs in them are relative to."""

    verbs: tuple[Verb, ...]
    url: str = ""
