"""What the checks of providers share: what the author names, and the facts every provider is asked with.

The end of it serves the checks of speech engines as well: what is not written yet, and no network.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

import pytest
from pydantic import SecretStr

from anycarrier.calls import (
    LONGEST_FACT,
    MOST_FACTS,
    STREAM_FACT,
    Call,
    CallStatus,
    DialRequest,
    Direction,
    StreamTarget,
)
from anycarrier.credentials import Credential
from anycarrier.errors import UnsupportedOperation
from anycarrier.events import IncomingCall
from anycarrier.numbers import NumberQuery
from anycarrier.provider import Capability, Provider, TicketPlace
from anycarrier.testing.cassettes import WebhookCassette, load_webhook
from anycarrier.testing.replay import CassetteTransport, FakeTransport, answering, provider_over
from anycarrier.webhooks import WebhookRequest

T = TypeVar("T")

OURS, THEIRS = "+14155550100", "+14155550123"
CALL_ID = "kit-call-0123456789"
TICKET = "kit-ticket"
STREAMS = {
    TicketPlace.PATH: StreamTarget(url=f"wss://voice.example.com/media/{TICKET}", ticket=TICKET),
    TicketPlace.QUERY: StreamTarget(url=f"wss://voice.example.com/media?ticket={TICKET}", ticket=TICKET),
    TicketPlace.HEADER: StreamTarget(url="wss://voice.example.com/media", ticket=TICKET),
}
"""Where the kit's media socket is, by where the carrier brings the ticket back."""
SECRET = "kit-secret-9f3b7c21d8"
"""Put in each secret field, then looked for where it must not be."""

QUERY = NumberQuery(country="US", area_code="415", limit=2)


class Kit:
    """Names what is tested. An author's subclass sets the three attributes and writes ``sign``."""

    provider: ClassVar[type[Provider]]
    credential: ClassVar[Credential]
    cassettes: ClassVar[Path]
    """The folder holding ``rest/``, ``webhooks/`` and ``streams/``."""

    error_bodies: ClassVar[Mapping[int, Any]] = {}
    """HTTP status -> the carrier's own JSON for it, where ``{"message": ...}`` would not be understood."""

    any_letters: ClassVar[frozenset[str]] = frozenset()
    """Fields of the credential that may hold letters of any language, as a SIP password may (RFC 7616, section 4)."""

    recording_id: ClassVar[str] = "kit-recording-0123456789"
    """A recording's, where your provider makes ids of more than the carrier's one."""

    also_played: ClassVar[Mapping[str, Callable[[Provider], Coroutine[Any, Any, Any]]]] = {}
    """Cassettes of your own: ``rest/<name>.yaml`` by its name -> the operation that plays it."""

    def sign(self, request: WebhookRequest) -> WebhookRequest:
        """``request`` with the headers the carrier would sign it with, using :attr:`credential`'s key.

        Scrubbing breaks recorded signatures, so the kit signs every cassette anew.
        """
        pytest.fail(f"{type(self).__name__} must define sign(request): the request signed as the carrier signs")

    def mirror(self, frame: bytes | str) -> bytes | str:
        """A frame of ours as the carrier would send it back. Default: the same, which suits most carriers."""
        return frame

    # --- for the themes ---------------------------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per cassette file and per capability."""
        for fixture, kind, ending in (("webhook", "webhooks", "json"), ("stream", "streams", "jsonl")):
            if fixture in metafunc.fixturenames:
                paths = self.kept(kind, ending)
                metafunc.parametrize(fixture, paths, ids=[path.stem for path in paths])
        if "capability" in metafunc.fixturenames:
            metafunc.parametrize("capability", list(Capability), ids=str)

    @classmethod
    def kept(cls, kind: str, ending: str) -> list[Path]:
        """The cassette files of one kind."""
        return sorted((cls.cassettes / kind).glob(f"*.{ending}"))

    @property
    def name(self) -> str:
        return self.provider.name

    @property
    def status_url(self) -> str:
        """Where the carrier posts about the kit's call."""
        return f"https://voice.example.com/{self.name}/kit?ref=0123456789abcdef"

    @property
    def stream(self) -> StreamTarget:
        """Where the audio of the kit's calls goes."""
        return STREAMS[self.provider.ticket_place]

    def make(self) -> Provider:
        """A provider that nobody asked anything yet."""
        return self.provider(self.credential)

    def ask(self, transport: FakeTransport, act: Callable[[Provider], Coroutine[Any, Any, T]], **secret: str) -> T:
        """Run one operation of a fresh provider over ``transport``."""

        async def asked() -> T:
            credential = self.with_secret(**secret) if secret else self.credential
            async with provider_over(transport, self.provider, credential) as provider:
                return await act(provider)

        try:
            return asyncio.run(asked())
        finally:
            if transport.lacking is not None:
                raise transport.lacking

    def cassette(self, operation: str) -> Path:
        """Where the cassette of an operation is, if there is one."""
        return self.cassettes / "rest" / f"{operation}.yaml"

    def replayed(self, operation: str) -> CassetteTransport:
        """A transport that answers from ``rest/<operation>.yaml``; without that file it answers nothing."""
        return CassetteTransport([self.cassette(operation)])

    def played(self, operation: str, act: Callable[[Provider], Coroutine[Any, Any, T]]) -> tuple[T, CassetteTransport]:
        """Run one operation over its cassette, to the cassette's end."""
        transport = self.replayed(operation)
        try:
            answer = self.ask(transport, act)
        except UnsupportedOperation as refusal:
            if transport.unplayed():
                pytest.fail(f"{refusal}; but rest/{operation}.yaml shows that the carrier does what the kit asks")
            raise
        unplayed = transport.unplayed()
        assert not unplayed, f"{operation} never asked for what is on rest/: {', '.join(unplayed)}"
        return answer, transport

    def keeps_good_facts(self, call: Call) -> None:
        """Facts are stored with the call, in clear."""
        lengths = [max(len(name) - 64, len(fact) - LONGEST_FACT) for name, fact in call.facts.items()]
        assert len(lengths) <= MOST_FACTS and max(lengths, default=0) <= 0, (
            f"a call keeps at most {MOST_FACTS} facts, of {LONGEST_FACT} characters each"
        )
        assert STREAM_FACT not in call.facts, f"the fact {STREAM_FACT} is the exchange's own: choose another name"
        secrets = [secret for secret in self.credential.secrets() if secret]
        held = [name for name, fact in call.facts.items() if any(secret in fact for secret in secrets)]
        assert not held, f"these facts of the call hold a secret of the credential: {', '.join(held)}"

    def with_secret(self, value: str) -> Credential:
        """The credential with a secret that can be told from any other text."""
        held = type(self.credential).model_fields
        secret = {name: SecretStr(value) for name in held if isinstance(getattr(self.credential, name), SecretStr)}
        return self.credential.model_copy(update=secret)

    def texts(self, credential: Credential | None = None) -> dict[str, str]:
        """The credential's texts by field, secrets in clear, as somebody would type them."""
        held = credential or self.credential
        values = {name: getattr(held, name) for name in type(held).model_fields if name != "provider"}
        shown = {n: v.get_secret_value() if isinstance(v, SecretStr) else v for n, v in values.items()}
        return {name: value for name, value in shown.items() if isinstance(value, str) and value}

    def ringing(self) -> IncomingCall:
        """An incoming call made up by the kit; :meth:`incoming` is one of the carrier's."""
        call = Call(
            id=CALL_ID,
            provider=self.name,
            direction=Direction.INBOUND,
            from_=THEIRS,
            to=OURS,
            status=CallStatus.RINGING,
        )
        return IncomingCall(call=call, call_id=CALL_ID)

    @staticmethod
    def required() -> list[str]:
        """The methods every provider must write, in the order of the contract."""
        return [name for name in vars(Provider) if name in Provider.__abstractmethods__]

    def unwritten(self) -> dict[str, str]:
        """The required methods that raise ``NotImplementedError``, each with what it says is left to write."""
        requests = [kept.request for kept in self.webhooks()]
        request = requests[0] if requests else WebhookRequest("POST", self.stream.url, {}, b"{}")

        async def without_io(act: Callable[[], object]) -> object:
            return act()

        acts: dict[str, Callable[[Provider], Coroutine[Any, Any, object]]] = {
            "verify": lambda p: without_io(lambda: p.verify(request)),
            "parse_webhook": lambda p: without_io(lambda: p.parse_webhook(request)),
            "serializer": lambda p: without_io(p.serializer),
            "search_numbers": lambda p: p.search_numbers(QUERY),
            "dial": lambda p: p.dial(self.dial_request()),
            "answer": lambda p: p.answer(self.ringing(), self.stream),
            "hang_up": lambda p: p.hang_up(CALL_ID),
        }
        return not_written(self.required(), lambda method: self.ask(answering(500, json={}), acts[method]))

    def dial_request(self, **changes: Any) -> DialRequest:
        """The one call the kit places."""
        facts: dict[str, Any] = {
            "from_": OURS,
            "to": THEIRS,
            "stream": self.stream,
            "status_url": self.status_url,
            "reference": "0123456789abcdef",
            "timeout": 20,
        }
        return DialRequest(**{**facts, **changes})

    def webhooks(self) -> list[WebhookCassette]:
        """All webhook cassettes."""
        return [load_webhook(path) for path in self.kept("webhooks", "json")]

    def incoming(self) -> IncomingCall:
        """The incoming call among the webhook files."""
        provider = self.make()
        for kept in self.webhooks():
            if kept.event["type"] == "IncomingCall":
                event = provider.parse_webhook(self.sign(kept.request))
                assert isinstance(event, IncomingCall)
                return event
        pytest.fail("no cassette in webhooks/ is an incoming call")

    def skip_without_webhooks(self) -> None:
        """Skip for a carrier that listens on sockets of its own and calls no webhooks."""
        if self.provider.capabilities & {Capability.LISTEN} and not self.kept("webhooks", "json"):
            pytest.skip("capability LISTEN: this carrier calls no webhooks")

    def skip_without_rest(self) -> None:
        """Skip for a carrier that listens on sockets of its own and has no REST."""
        if Capability.LISTEN in self.provider.capabilities and not self.kept("rest", "yaml"):
            pytest.skip("capability LISTEN: this carrier has no REST")


def not_written(names: Iterable[str], use: Callable[[str], object]) -> dict[str, str]:
    """The names whose use raises ``NotImplementedError``, each with what the error says is left to write."""
    missing = {}
    for name in names:
        try:
            use(name)
        except NotImplementedError as left:
            missing[name] = str(left)
        except Exception:  # noqa: BLE001, S110  it is written; the other checks say whether it is right
            pass
    return missing


def fail_with_the_next(of: str, what: str, names: Sequence[str], missing: Mapping[str, str]) -> None:
    """Unless nothing is missing, say how many of ``names`` are written and which to write next."""
    if missing:
        written = [name for name in names if name not in missing]
        done = f" ({', '.join(written)})" if written else ""
        name, hint = next(iter(missing.items()))
        pytest.fail(
            f"{of}: {len(written)} of {len(names)} {what} are written{done}. "
            f"Next is {name}: {hint or 'it raises NotImplementedError'}",
            pytrace=False,
        )


class NoNetwork:
    """While it is entered, opening any connection or looking up any name is a failure."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def __enter__(self) -> None:
        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise AssertionError("touched the network where no I/O is allowed")

        for name in ("connect", "connect_ex", "sendto", "bind"):
            self.patch.setattr(socket.socket, name, refuse)
        self.patch.setattr(socket, "getaddrinfo", refuse)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()
