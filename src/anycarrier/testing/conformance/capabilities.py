"""Capabilities: a declared one answers, an undeclared one raises ``UnsupportedOperation``. One table lists them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anycarrier.calls import Call, CallStatus, Direction, EndReason
from anycarrier.errors import AnycarrierError, CallElsewhere, InvalidNumber, ProviderError, UnsupportedOperation
from anycarrier.events import IncomingCall, InstructionsFor, InstructionsRequested
from anycarrier.listener import Listener
from anycarrier.numbers import OwnedNumber, PendingOrder, SyncResult
from anycarrier.provider import Capability, Provider
from anycarrier.testing.conformance.kit import CALL_ID, OURS, SECRET, THEIRS, Kit
from anycarrier.testing.replay import CassetteTransport, NotOnCassette, answering, provider_over
from anycarrier.webhooks import WebhookReply


class CapabilityChecks(Kit):
    def test_a_declared_capability_answers_and_an_undeclared_one_says_so(self, capability: Capability) -> None:
        if capability not in self.provider.capabilities:
            self.undeclared(capability)
        elif CHECKS[capability].opens_sockets:
            pytest.skip("capability LISTEN: see the checks of listeners")
        else:
            self.declared(capability)

    def declared(self, capability: Capability) -> None:
        self.skip_without_rest()
        check, path = CHECKS[capability], self.cassette(capability)
        assert path.exists() or check.in_reply, f"{capability} is declared, but no rest/{path.name} shows it"
        answer, transport = self.played(capability, lambda provider: check.ask(self, provider))
        assert isinstance(answer, check.answer), f"{capability} gave a {type(answer).__name__}"
        assert transport.requests or check.in_reply, f"{capability} asked the carrier for nothing"
        if isinstance(answer, Call):
            self.keeps_good_facts(answer)
        if isinstance(answer, WebhookReply):
            told = answer.body.decode() + transport.sent
            assert told, f"{capability} tells the carrier nothing, neither in the reply nor by a request"
            assert capability is not Capability.FORWARD or THEIRS[1:] in told, "forward does not tell where to"
        if isinstance(answer, list):
            assert {(type(number), number.provider) for number in answer} == {(OwnedNumber, self.name)}
        if isinstance(answer, SyncResult):
            assert answer.ok, answer.message
            undone = answer.changed or capability is not Capability.UNCONFIGURE_NUMBER
            assert undone, f"rest/{path.name} shows no number that pointed to {self.url}"

    @pytest.mark.parametrize("nowhere", ["", "4155550123", "tel:+14155550123", "sip:a@b@c", "sip:a@b.example,sip:c@d"])
    @pytest.mark.parametrize("way", [Capability.FORWARD, Capability.TRANSFER])
    def test_a_call_is_sent_on_to_an_address_or_nowhere(self, way: Capability, nowhere: str) -> None:
        """``destination(to)`` of ``anycarrier.sip``, before anything is sent: a wrong guess rings a stranger."""
        if way not in self.provider.capabilities:
            pytest.skip(f"capability {way}: not declared")
        self.skip_without_rest()
        call = self.incoming_or_made_up(Capability.FORWARD)

        async def send_on(provider: Provider) -> None:
            if way is Capability.FORWARD:
                await provider.forward(call, nowhere)
            else:
                await provider.transfer(CALL_ID, nowhere)

        with pytest.raises((InvalidNumber, UnsupportedOperation, CallElsewhere)):
            self.ask(CassetteTransport([]), send_on)

    @pytest.mark.parametrize("number", ["", "14155550100", "+1415", "(415) 555-0100"])
    def test_what_is_no_number_is_not_bought(self, number: str) -> None:
        """``e164(number)`` of ``anycarrier.numbers``."""
        if Capability.BUY_NUMBER not in self.provider.capabilities:
            pytest.skip("capability BUY_NUMBER: not declared")
        with pytest.raises((InvalidNumber, UnsupportedOperation)):
            self.ask(CassetteTransport([]), lambda p: p.buy_number(number))

    def undeclared(self, capability: Capability) -> None:
        if capability is Capability.REJECT:
            return  # its default is to hang up
        with pytest.raises(UnsupportedOperation) as caught:
            self.ask(CassetteTransport([]), lambda provider: CHECKS[capability].ask(self, provider))
        assert caught.value.provider == self.name
        assert caught.value.operation == capability

    def test_a_capability_that_fails_says_so_and_shows_no_secret(self, capability: Capability) -> None:
        """A failure that is swallowed would count as done."""
        check = CHECKS[capability]
        if capability not in self.provider.capabilities or check.opens_sockets:
            pytest.skip(f"capability {capability.name}: nothing is asked of the carrier")
        self.skip_without_rest()
        transport = answering(500, json=self.error_bodies.get(500, {"message": f"no to {SECRET}"}))
        failed: AnycarrierError | None = None
        try:
            self.ask(transport, lambda provider: check.ask(self, provider), value=SECRET)
        except AnycarrierError as error:
            failed = error
        if failed is None:
            assert not transport.requests, f"{capability} took a 500 for success"
            return
        assert SECRET not in f"{failed} {failed!r} {vars(failed)}", f"the error of {capability} shows the secret"

    # --- what an operation is asked with -----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Our webhook URL, as recorders write it onto cassettes."""
        return f"https://voice.example.com/{self.name}/main"

    def incoming_or_made_up(self, capability: Capability) -> IncomingCall:
        """The carrier's own incoming call where the capability is declared, else one that the kit makes up."""
        return self.incoming() if capability in self.provider.capabilities else self.ringing()

    def number(self, capability: Capability) -> str:
        """The number a cassette is about."""
        return number_on(self.cassette(capability))

    async def recording(self) -> str:
        """The id of a recording as ``start_recording`` gave it: some carriers tell it only later."""
        transport = self.replayed(Capability.START_RECORDING)
        async with provider_over(transport, self.provider, self.credential) as provider:
            try:
                return await provider.start_recording(CALL_ID, status_url=self.url)
            except (NotOnCassette, ProviderError, UnsupportedOperation):
                return self.recording_id


def number_on(path: Path) -> str:
    """The first phone number on a cassette, in E.164, without its plus, or in ten digits; ours where there is none."""
    text = path.read_text("utf-8") if path.exists() else ""
    found = re.search(r"(?<!\d)1?([2-9]\d\d55501\d\d)(?!\d)", text)
    return f"+1{found[1]}" if found else OURS


@dataclass(frozen=True, slots=True)
class Check:
    """How the kit asks for one capability, and what a right answer is."""

    ask: Callable[[CapabilityChecks, Provider], Coroutine[Any, Any, Any]]
    answer: type | tuple[type, ...]
    in_reply: bool = False
    """It may be said in the webhook's reply, without any request."""
    opens_sockets: bool = False
    """There is nothing to replay."""


async def _stop_recording(kit: CapabilityChecks, provider: Provider) -> None:
    await provider.stop_recording(CALL_ID, await kit.recording())


async def _instruct(kit: CapabilityChecks, provider: Provider) -> WebhookReply:
    call = Call(
        id=CALL_ID, provider=provider.name, direction=Direction.OUTBOUND, from_=OURS, to=THEIRS,
        status=CallStatus.ANSWERED, reference="0123456789abcdef",
    )  # fmt: skip
    asked = InstructionsRequested(call_id=CALL_ID, call=call, purpose=InstructionsFor.ANSWERED)
    reply = await provider.instruct(asked, call, kit.stream)
    assert kit.stream.url.encode() in reply.body, "instruct: the reply does not name the stream's URL"
    assert kit.stream.url.encode() not in (await provider.instruct(asked, call, None)).body
    return reply


async def _listen(kit: CapabilityChecks, provider: Provider) -> Listener:
    return provider.listen(None)  # type: ignore[arg-type]


CHECKS: Mapping[Capability, Check] = {
    Capability.BUY_NUMBER: Check(
        lambda kit, p: p.buy_number(kit.number(Capability.BUY_NUMBER), timeout=5), (OwnedNumber, PendingOrder)
    ),
    Capability.FETCH_ORDER: Check(
        lambda kit, p: p.fetch_order("kit-order-0123456789"), (OwnedNumber, PendingOrder)
    ),
    Capability.RELEASE_NUMBER: Check(
        lambda kit, p: p.release_number(kit.number(Capability.RELEASE_NUMBER)), type(None)
    ),
    Capability.LIST_NUMBERS: Check(lambda kit, p: p.list_numbers(), list),
    Capability.CONFIGURE_NUMBER: Check(
        lambda kit, p: p.configure_number(kit.number(Capability.CONFIGURE_NUMBER), webhook_url=kit.url), SyncResult
    ),
    Capability.UNCONFIGURE_NUMBER: Check(
        lambda kit, p: p.unconfigure_number(kit.number(Capability.UNCONFIGURE_NUMBER), webhook_url=kit.url), SyncResult
    ),
    Capability.CHECK_CREDENTIAL: Check(lambda kit, p: p.check_credential(), str),
    Capability.FETCH_CALL: Check(lambda kit, p: p.fetch_call(CALL_ID), Call),
    Capability.REJECT: Check(
        lambda kit, p: p.reject(kit.incoming_or_made_up(Capability.REJECT), EndReason.BUSY), WebhookReply, in_reply=True
    ),
    Capability.FORWARD: Check(
        lambda kit, p: p.forward(kit.incoming_or_made_up(Capability.FORWARD), THEIRS), WebhookReply, in_reply=True
    ),
    Capability.TRANSFER: Check(lambda kit, p: p.transfer(CALL_ID, THEIRS, status_url=kit.status_url), type(None)),
    Capability.INSTRUCT: Check(_instruct, WebhookReply, in_reply=True),
    Capability.SEND_DIGITS: Check(lambda kit, p: p.send_digits(CALL_ID, "12#"), type(None)),
    Capability.START_RECORDING: Check(lambda kit, p: p.start_recording(CALL_ID, status_url=kit.url), str),
    Capability.STOP_RECORDING: Check(_stop_recording, type(None)),
    Capability.FETCH_RECORDING: Check(lambda kit, p: p.fetch_recording(kit.recording_id), bytes),
    Capability.LISTEN: Check(_listen, Listener, opens_sockets=True),
}
"""One row for each capability, here and nowhere else; a test of anycarrier's own compares them with ``Capability``."""
