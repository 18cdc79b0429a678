"""Webhooks: each cassette becomes exactly its event; what is not provably the carrier's is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anycarrier.calls import ANSWERED_REASONS
from anycarrier.errors import MalformedMessage, SignatureInvalid
from anycarrier.events import CallEvent, CallProgress, IncomingCall, InstructionsRequested
from anycarrier.provider import Capability
from anycarrier.testing.cassettes import describe, load_webhook
from anycarrier.testing.conformance.kit import SECRET, Kit, NoNetwork
from anycarrier.webhooks import WebhookRequest


class WebhookChecks(Kit):
    def test_an_incoming_call_is_among_the_cassettes(self) -> None:
        self.skip_without_webhooks()
        assert "IncomingCall" in {kept.event["type"] for kept in self.webhooks()}, "webhooks/ holds no incoming call"

    def test_an_unknown_kind_is_among_the_cassettes(self) -> None:
        self.skip_without_webhooks()
        assert "UnknownEvent" in {kept.event["type"] for kept in self.webhooks()}, (
            "webhooks/ holds no message of a kind anycarrier has no word for; it must become an UnknownEvent"
        )

    def test_a_webhook_becomes_exactly_its_event(self, webhook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = load_webhook(webhook)
        provider, request = self.make(), self.sign(kept.request)
        with NoNetwork(monkeypatch):
            provider.verify(request)
            event = provider.parse_webhook(request)
        assert json.loads(json.dumps(describe(event))) == kept.event

    def test_an_event_keeps_the_original_and_an_id_for_redelivery(self, webhook: Path) -> None:
        request = self.sign(load_webhook(webhook).request)
        event = self.make().parse_webhook(request)
        assert event.raw, "raw is empty: the carrier's own message is lost"
        assert event.event_id, "event_id is empty: a redelivery could not be told from a new event"
        assert self.make().parse_webhook(request).event_id == event.event_id, "the same message has another event_id"
        if isinstance(event, IncomingCall | CallProgress):
            self.keeps_good_facts(event.call)

    def test_a_question_for_instructions_has_an_answer(self) -> None:
        """A carrier that asks by webhook what to do hears nothing unless the provider has ``instruct``."""
        for kept in self.webhooks():
            event = self.make().parse_webhook(self.sign(kept.request))
            if isinstance(event, InstructionsRequested):
                assert Capability.INSTRUCT in self.provider.capabilities, (
                    "parse_webhook returns InstructionsRequested: override instruct, which answers it"
                )

    def test_two_events_have_two_ids(self) -> None:
        """An id that is seen again is taken for a redelivery, and its event is dropped."""
        told: dict[str, str] = {}
        for kept in self.webhooks():
            event = self.make().parse_webhook(self.sign(kept.request))
            if isinstance(event, CallProgress) and event.call.ended and event.call.reason not in ANSWERED_REASONS:
                continue  # another outcome of the call that other cassettes show answered: it can have but one
            what = f"{kept.event['type']} {kept.event.get('call', {}).get('status', '')}".strip()
            known = told.setdefault(event.event_id, what)
            assert known == what, f"two events, {known} and {what}, have the event_id {event.event_id!r}"

    def test_a_refused_signature_shows_neither_key_nor_signature(self, webhook: Path) -> None:
        plain = load_webhook(webhook).request
        signed = self.sign(plain)
        added = [value for name, value in signed.headers.items() if plain.headers.get(name) != value]
        for provider in (self.make(), self.provider(self.with_secret(value=SECRET))):
            shown = ""
            try:
                provider.verify(replace(plain, headers={}))
            except SignatureInvalid as refused:
                shown = f"{refused} {refused!r}"
            assert SECRET not in shown, "the refusal of a signature shows the key"
            assert not any(value in shown for value in added if len(value) > 16), "the refusal shows what would pass"

    def test_one_byte_changed_is_refused(self, webhook: Path) -> None:
        if not self.provider.signs_webhooks:
            pytest.skip("capability: this carrier logs in to our URL, and signs nothing of what it says")
        for forged in tampered(self.sign(load_webhook(webhook).request)):
            with pytest.raises(SignatureInvalid):
                self.make().verify(forged)

    def test_without_or_with_another_signature_it_is_refused(self, webhook: Path) -> None:
        plain = load_webhook(webhook).request
        signed = self.sign(plain)
        added = [name for name, value in signed.headers.items() if plain.headers.get(name) != value]
        assert added, "sign(request) added no header"
        for name in added:
            kept = {key: value for key, value in signed.headers.items() if key != name}
            for headers in (kept, *({**kept, name: bad} for bad in ("", "x", "0", "é", "=" * 88, "A" * 5000))):
                with pytest.raises(SignatureInvalid):
                    self.make().verify(replace(signed, headers=headers))
        with pytest.raises(SignatureInvalid):
            self.make().verify(replace(signed, headers={}))

    def test_a_mangled_body_is_an_event_or_malformed(self, webhook: Path) -> None:
        """Nonsense is answered by ``MalformedMessage``, never by whatever the parser trips over."""
        request = load_webhook(webhook).request
        for body in mangled(request.body):
            try:
                event = self.make().parse_webhook(replace(request, body=body))
            except MalformedMessage:
                continue
            assert isinstance(event, CallEvent)


def tampered(signed: WebhookRequest) -> Iterator[WebhookRequest]:
    """One byte changed in several places of what was signed: the body, or the query of a GET."""
    body = signed.body
    if not body:
        yield replace(signed, url=signed.url[:-1] + ("x" if signed.url[-1] != "x" else "y"))
    for at in sorted({0, len(body) // 3, len(body) // 2, len(body) - 1}) if body else ():
        yield replace(signed, body=body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])


def mangled(body: bytes) -> Iterator[bytes]:
    """Half bodies, other shapes, other encodings."""
    yield from (body[: len(body) * part // 8] for part in range(8))
    yield from (b"[]", b"null", b"{}", b"5", b'"x"', b"\xff\xfe\x00", b"a=%ff&b", b"[" * 5000, b"{" * 5000)
    try:
        whole = json.loads(body)
    except ValueError:
        pairs = body.split(b"&")
        yield from (b"&".join(pairs[:at] + pairs[at + 1 :]) for at in range(len(pairs)))
        yield from (b"&".join([*pairs[:at], pairs[at].split(b"=")[0] + b"=", *pairs[at + 1 :]])
                    for at in range(len(pairs)))  # fmt: skip
        return
    yield from (json.dumps(changed).encode() for changed in changed_values(whole))


def changed_values(value: object) -> Iterator[object]:
    """``value`` with each part in turn replaced by something of another type."""
    yield from (None, 5, "", "x", [], {}, True)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {k: v for k, v in value.items() if k != key}
            yield from ({**value, key: other} for other in changed_values(inner))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from ([*value[:at], other, *value[at + 1 :]] for other in changed_values(inner))
