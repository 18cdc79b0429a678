"""Capabilities: a declared one answers, an undeclared one says so in its own typed error."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from anycarrier.calls import Call, CallStatus, Direction, EndReason
from anycarrier.errors import UnsupportedOperation
from anycarrier.events import IncomingCall
from anycarrier.listener import Listener
from anycarrier.numbers import OwnedNumber, PendingOrder, SyncResult
from anycarrier.provider import Capability, Provider
from anycarrier.testing.conformance.kit import CALL_ID, OURS, THEIRS, Kit
from anycarrier.testing.replay import CassetteWire, NotOnCassette
from anycarrier.webhooks import WebhookReply

LISTENS = {Capability.LISTEN}  # sockets of its own: nothing to replay
IN_REPLY = {Capability.REJECT, Capability.FORWARD}  # may be said in the webhook's reply, without any request

ANSWERS: dict[Capability, type | tuple[type, ...]] = {
    Capability.BUY_NUMBER: (OwnedNumber, PendingOrder),
    Capability.FETCH_ORDER: (OwnedNumber, PendingOrder),
    Capability.RELEASE_NUMBER: type(None),
    Capability.LIST_NUMBERS: list,
    Capability.CONFIGURE_NUMBER: SyncResult,
    Capability.UNCONFIGURE_NUMBER: SyncResult,
    Capability.CHECK_CREDENTIAL: str,
    Capability.FETCH_CALL: Call,
    Capability.REJECT: WebhookReply,
    Capability.FORWARD: WebhookReply,
    Capability.TRANSFER: type(None),
    Capability.SEND_DIGITS: type(None),
    Capability.START_RECORDING: str,
    Capability.STOP_RECORDING: type(None),
    Capability.FETCH_RECORDING: bytes,
    Capability.LISTEN: Listener,
}


class CapabilityChecks(Kit):
    def test_a_declared_capability_answers_and_an_undeclared_one_says_so(self, capability: Capability) -> None:
        if capability not in self.provider.capabilities:
            self.undeclared(capability)
        elif capability in LISTENS:
            pytest.skip("a listener opens sockets; the carrier's own tests cover it")
        else:
            self.declared(capability)

    def declared(self, capability: Capability) -> None:
        path = self.cassettes / "rest" / f"{capability}.yaml"
        assert path.exists() or capability in IN_REPLY, f"{capability} is declared, but no rest/{path.name} shows it"
        wire = CassetteWire([path] if path.exists() else [])
        answer: Any = self.ask(wire, self.act(capability))
        assert isinstance(answer, ANSWERS[capability]), f"{capability} gave a {type(answer).__name__}"
        assert wire.requests or capability in IN_REPLY, f"{capability} asked the carrier for nothing"
        if isinstance(answer, list):
            assert {(type(number), number.provider) for number in answer} == {(OwnedNumber, self.name)}
        if isinstance(answer, SyncResult):
            assert answer.ok, answer.message
            undone = answer.changed or capability is not Capability.UNCONFIGURE_NUMBER
            assert undone, f"rest/{path.name} shows no number that pointed to {self.url}"

    def undeclared(self, capability: Capability) -> None:
        if capability is Capability.REJECT:
            return  # its default is to hang up
        with pytest.raises(UnsupportedOperation) as caught:
            self.ask(CassetteWire([]), self.act(capability))
        assert caught.value.provider == self.name
        assert caught.value.operation == capability

    def act(self, capability: Capability) -> Callable[[Provider], Coroutine[Any, Any, Any]]:
        """The operation with the arguments the kit asks it with."""

        def incoming() -> IncomingCall:
            return self.incoming() if capability in self.provider.capabilities else self.stranger()

        async def listen(provider: Provider) -> Listener:
            return provider.listen(None)  # type: ignore[arg-type]

        recording = self.recording() if capability is Capability.STOP_RECORDING else ""
        number = self.number_on(self.cassettes / "rest" / f"{capability}.yaml")
        acts: dict[Capability, Callable[[Provider], Coroutine[Any, Any, Any]]] = {
            Capability.BUY_NUMBER: lambda p: p.buy_number(number, timeout=5),
            Capability.FETCH_ORDER: lambda p: p.fetch_order("kit-order-0123456789"),
            Capability.RELEASE_NUMBER: lambda p: p.release_number(number),
            Capability.LIST_NUMBERS: lambda p: p.list_numbers(),
            Capability.CONFIGURE_NUMBER: lambda p: p.configure_number(number, webhook_url=self.url),
            Capability.UNCONFIGURE_NUMBER: lambda p: p.unconfigure_number(number, webhook_url=self.url),
            Capability.CHECK_CREDENTIAL: lambda p: p.check_credential(),
            Capability.FETCH_CALL: lambda p: p.fetch_call(CALL_ID),
            Capability.REJECT: lambda p: p.reject(incoming(), EndReason.BUSY),
            Capability.FORWARD: lambda p: p.forward(incoming(), THEIRS),
            Capability.TRANSFER: lambda p: p.transfer(CALL_ID, THEIRS),
            Capability.SEND_DIGITS: lambda p: p.send_digits(CALL_ID, "12#"),
            Capability.START_RECORDING: lambda p: p.start_recording(CALL_ID, status_url=self.url),
            Capability.STOP_RECORDING: lambda p: p.stop_recording(CALL_ID, recording),
            Capability.FETCH_RECORDING: lambda p: p.fetch_recording("kit-recording-0123456789"),
            Capability.LISTEN: listen,
        }
        return acts[capability]

    def stranger(self) -> IncomingCall:
        """An incoming call for operations that are not there."""
        call = Call(
            id=CALL_ID,
            provider=self.name,
            direction=Direction.INBOUND,
            from_=THEIRS,
            to=OURS,
            status=CallStatus.RINGING,
        )
        return IncomingCall(call=call, call_id=CALL_ID)

    @property
    def url(self) -> str:
        """Our webhook URL, as recorders write it onto cassettes."""
        return f"https://voice.example.com/{self.name}/main"

    def number_on(self, path: Path) -> str:
        """The number a cassette is about."""
        found = re.search(r"(?:\+|%2B)(1[2-9]\d\d55501\d\d)", path.read_text("utf-8")) if path.exists() else None
        return f"+{found[1]}" if found else OURS

    def recording(self) -> str:
        """The id of a recording as ``start_recording`` gave it: some carriers tell it only later."""
        try:
            return self.ask(self.replayed("start_recording"), self.act(Capability.START_RECORDING))  # type: ignore[no-any-return]
        except (NotOnCassette, UnsupportedOperation):
            return "kit-recording-0123456789"
