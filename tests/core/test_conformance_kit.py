"""The conformance kit can fail: each defect a carrier author may make is seen by the check that is meant to see it.

The whole kit runs on Acme with one thing broken; what fails must be what is listed, no more and no less.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx  # noqa: F401 - kept loaded between the runs, which would each load it anew
import pytest
import vcr.cassette  # noqa: F401
import yaml

import anycarrier.testing.conformance  # noqa: F401
from anycarrier import plugins
from anycarrier.calls import DialRequest
from anycarrier.numbers import NumberQuery
from anycarrier.provider import Capability
from anycarrier.testing.cassettes import files, provenance_of, scan
from anycarrier.testing.conformance.capabilities import CHECKS
from anycarrier.testing.conformance.rest import DIAL_OPTIONS, SEARCH_OPTIONS, optional_fields
from anycarrier.testing.live_server import serve_sandbox
from anycarrier.testing.record import record_live
from anycarrier.testing.sandbox import sandbox_type
from core.conftest import WITHOUT

pytest_plugins = ["pytester"]

ACME = Path(__file__).resolve().parents[2] / "docs" / "examples" / "anycarrier-acme"

HEAD = '''
import hmac, json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
import httpx
from pydantic import field_validator
from anycarrier import plugins
from anycarrier.calls import Call, CallStatus, Direction
from anycarrier.credentials import Credential
from anycarrier.errors import *
from anycarrier.events import *
from anycarrier.hookspecs import hookimpl
from anycarrier.numbers import NumberRequirement
from anycarrier.provider import TicketPlace
from anycarrier.testing.conformance import ProviderConformance
from anycarrier.webhooks import WebhookReply
import anycarrier_acme
from anycarrier_acme import AcmeCredential, AcmeProvider, AcmeSerializer

KEPT = []

'''

TAIL = '''

class Plugin:
    @hookimpl
    def anycarrier_providers(self):
        return [Defective]

plugins._host = plugins.PluginHost()
plugins._host.register(Plugin(), "this test", "acme")

class TestAcme(ProviderConformance):
    provider, credential, cassettes = Defective, Defective.credential_type(api_key="test"), Path("cassettes")

    def sign(self, request):
        signature = hmac.digest(b"test", request.body, "sha256").hex()
        return replace(request, headers={**request.headers, "x-acme-signature": signature})
'''

SOUND = "class Defective(AcmeProvider):\n    pass\n"

DEFECTS: dict[str, tuple[str, set[str]]] = {
    "open secret": (
        """
class Open(AcmeCredential):
    auth_token: str = "in the open"

class Defective(AcmeProvider):
    credential_type = Open
""",
        {"test_secret_fields_are_secret"},
    ),
    "keys kept as pasted": (
        """
class Pasted(AcmeCredential):
    @field_validator("*", mode="before")
    @classmethod
    def entered(cls, value):
        return value

class Defective(AcmeProvider):
    credential_type = Pasted
""",
        {
            "test_what_copying_adds_to_a_field_is_taken_off",
            "test_what_no_key_holds_is_refused_when_it_is_entered",
        },
    ),
    "sends a call on to anything": (
        """
class Defective(AcmeProvider):
    async def transfer(self, call_id, to, *, caller_id=None, status_url="", headers=None):
        if headers:
            raise self.unsupported("transfer", "acme sends no headers")
        body = {"id": call_id, "to": to, "caller_id": caller_id, "status_url": status_url}
        await self.request("POST", "/transfers", operation="transfer", json=body)
""",
        {"test_a_call_is_sent_on_to_an_address_or_nowhere"},
    ),
    "buys anything": (
        """
class Defective(AcmeProvider):
    async def buy_number(self, number, *, timeout=30.0, extra=None):
        return await self.request("POST", "/numbers", operation="buy_number", json={"number": number})
""",
        {"test_what_is_no_number_is_not_bought", "test_a_declared_capability_answers_and_an_undeclared_one_says_so"},
    ),
    "secret in repr": (
        """
class Defective(AcmeProvider):
    def __repr__(self):
        return f"<acme {self.credential.api_key.get_secret_value()}>"
""",
        {"test_secrets_are_in_no_repr"},
    ),
    "secret logged": (
        """
import logging

class Defective(AcmeProvider):
    def headers(self):
        logging.getLogger("acme").debug("headers %s", super().headers())
        return super().headers()
""",
        {"test_secrets_are_in_no_error_and_no_log"},
    ),
    "carrier's words passed on raw": (
        """
class Defective(AcmeProvider):
    def error(self, operation, status, *, code=None, message="", headers=None):
        made = super().error(operation, status, code=code, headers=headers)
        made.message = message
        return made
""",
        {"test_secrets_are_in_no_error_and_no_log", "test_a_capability_that_fails_says_so_and_shows_no_secret"},
    ),
    "network on construction": (
        """
import socket

class Defective(AcmeProvider):
    def __init__(self, credential, http=None):
        super().__init__(credential, http)
        try:
            socket.getaddrinfo("localhost", 80)
        except OSError:
            pass
""",
        {"test_making_one_touches_no_network"},
    ),
    "bad name": (
        'class Defective(AcmeProvider):\n    name = "Acme Telecom"\n',
        {
            "test_the_name_is_the_credentials_name_too",
            "test_dial_is_one_request_and_gives_the_call",  # the call names another carrier
            "test_search_numbers_answers",  # so do the offers
        },
    ),
    "signature not checked": (
        "class Defective(AcmeProvider):\n    def verify(self, request):\n        return None\n",
        {"test_one_byte_changed_is_refused", "test_without_or_with_another_signature_it_is_refused"},
    ),
    "signature checked when sent": (
        """
class Defective(AcmeProvider):
    def verify(self, request):
        if request.header("x-acme-signature"):
            super().verify(request)
""",
        {"test_without_or_with_another_signature_it_is_refused"},
    ),
    "half the body signed": (
        """
class Defective(AcmeProvider):
    def verify(self, request):
        for name in ("x-acme-signature",):
            if not request.header(name):
                raise SignatureInvalid("missing")
        if len(request.header("x-acme-signature")) != 64 or not request.body.startswith(b"{"):
            raise SignatureInvalid("wrong")
""",
        {"test_one_byte_changed_is_refused"},
    ),
    "caller and callee swapped": (
        """
class Defective(AcmeProvider):
    def parse_webhook(self, request):
        event = super().parse_webhook(request)
        if isinstance(event, IncomingCall):
            call = event.call.model_copy(update={"from_": event.call.to, "to": event.call.from_})
            event = IncomingCall(call=call, call_id=event.call_id, event_id=event.event_id,
                                 occurred_at=event.occurred_at, raw=event.raw)
        return event
""",
        {"test_a_webhook_becomes_exactly_its_event"},
    ),
    "unknown kinds fail": (
        """
class Defective(AcmeProvider):
    def parse_webhook(self, request):
        event = super().parse_webhook(request)
        if isinstance(event, UnknownEvent):
            raise MalformedMessage("what is this?")
        return event
""",
        {
            "test_two_events_have_two_ids",
            "test_a_question_for_instructions_has_an_answer",
            "test_a_webhook_becomes_exactly_its_event",
            "test_an_event_keeps_the_original_and_an_id_for_redelivery",
        },
    ),
    "event ids at random": (
        """
import uuid
import msgspec

class Defective(AcmeProvider):
    def parse_webhook(self, request):
        return msgspec.structs.replace(super().parse_webhook(request), event_id=uuid.uuid4().hex)
""",
        {
            "test_a_webhook_becomes_exactly_its_event",
            "test_an_event_keeps_the_original_and_an_id_for_redelivery",
        },
    ),
    "raw thrown away": (
        """
import msgspec

class Defective(AcmeProvider):
    def parse_webhook(self, request):
        return msgspec.structs.replace(super().parse_webhook(request), raw={})
""",
        {"test_an_event_keeps_the_original_and_an_id_for_redelivery"},
    ),
    "parser trips over nonsense": (
        """
class Defective(AcmeProvider):
    def parse_webhook(self, request):
        json.loads(request.body)["type"]
        return super().parse_webhook(request)
""",
        {"test_a_mangled_body_is_an_event_or_malformed"},
    ),
    "audio cut": (
        """
class Cut(AcmeSerializer):
    def encode_audio(self, payload):
        return super().encode_audio(payload[: len(payload) // 160 * 160 or 1])

class Defective(AcmeProvider):
    def serializer(self):
        return Cut()
""",
        {
            "test_audio_survives_encode_and_decode",
            "test_frames_become_exactly_their_events_and_ours_the_carriers_frames",
        },
    ),
    "never closed": (
        """
class Eager(AcmeSerializer):
    @property
    def open(self):
        return True
    @open.setter
    def open(self, value):
        pass

class Defective(AcmeProvider):
    def serializer(self):
        return Eager()
""",
        {"test_two_streams_of_one_provider_share_nothing", "test_sending_before_start_and_after_stop_is_our_error"},
    ),
    "frames kept": (
        """
class Hoarder(AcmeSerializer):
    def __init__(self):
        self.seen = []
    def decode(self, frame):
        self.seen.append(bytes(frame if isinstance(frame, bytes) else frame.encode()))
        return super().decode(frame)

class Defective(AcmeProvider):
    def serializer(self):
        return Hoarder()
""",
        {"test_ten_thousand_frames_leave_nothing_behind"},
    ),
    "decoder trips over nonsense": (
        """
class Brittle(AcmeSerializer):
    def decode(self, frame):
        json.loads(frame)["type"]
        return super().decode(frame)

class Defective(AcmeProvider):
    def serializer(self):
        return Brittle()
""",
        {"test_bad_frames_are_events_or_malformed"},
    ),
    "JSON sent in binary frames": (
        """
class Mixed(AcmeSerializer):
    def send(self, frame):
        return [text.encode() for text in super().send(frame)]

class Defective(AcmeProvider):
    def serializer(self):
        return Mixed()
""",
        {"test_frames_become_exactly_their_events_and_ours_the_carriers_frames"},
    ),
    "unknown keys refused": (
        """
class Strict(AcmeSerializer):
    def decode(self, frame):
        events = super().decode(frame)
        if set(json.loads(frame)) - {"type", "call", "custom", "data", "ms", "name", "sunny"}:
            raise MalformedMessage("an unknown key")
        return events

class Defective(AcmeProvider):
    def serializer(self):
        return Strict()
""",
        {"test_extra_keys_change_nothing"},
    ),
    "mark lost": (
        """
class Marks(AcmeSerializer):
    def encode_mark(self, name):
        return super().encode_mark("m")

class Defective(AcmeProvider):
    def serializer(self):
        return Marks()
""",
        {
            "test_a_mark_comes_back_by_its_name",
            "test_frames_become_exactly_their_events_and_ours_the_carriers_frames",
        },
    ),
    "digits for the media socket before it is open": (
        """
class Keys(AcmeSerializer):
    def encode_digits(self, digits):
        return [digits]

class Defective(AcmeProvider):
    def serializer(self):
        return Keys()
""",
        {"test_digits_need_an_open_stream_where_they_go_over_it"},
    ),
    "dial retried": (
        """
class Defective(AcmeProvider):
    async def dial(self, request):
        try:
            return await super().dial(request)
        except ProviderUnavailable:
            return await super().dial(request)
""",
        {"test_a_failed_dial_is_never_sent_again"},
    ),
    "dial looks first": (
        """
class Defective(AcmeProvider):
    async def dial(self, request):
        await self.http.post(self.base_url + "/calls", json=request.model_dump(mode="json"))
        return await super().dial(request)
""",
        {
            "test_dial_is_one_request_and_gives_the_call",
            "test_a_failed_dial_is_never_sent_again",
            "test_a_failure_has_its_own_error",
            "test_a_request_that_cannot_be_written_is_no_call_of_unknown_outcome",
        },
    ),
    "extra dropped": (
        """
class Defective(AcmeProvider):
    async def dial(self, request):
        return await super().dial(request.model_copy(update={"extra": {}}))
""",
        {"test_extra_reaches_the_wire"},
    ),
    "options of dial dropped": (
        """
class Defective(AcmeProvider):
    async def dial(self, request):
        return await super().dial(request.model_copy(update={"digits": None, "caller_id": None, "time_limit": None}))
""",
        {"test_an_option_of_dial_is_sent_or_refused"},
    ),
    "options of dial dropped beside an id made at random": (
        """
import uuid

class Defective(AcmeProvider):
    async def dial(self, request):
        extra = {**request.extra, "idempotency": uuid.uuid4().hex}
        return await super().dial(request.model_copy(update={"digits": None, "extra": extra}))
""",
        {"test_an_option_of_dial_is_sent_or_refused", "test_dial_is_one_request_and_gives_the_call"},
    ),
    "recording and machine detection dropped": (
        """
class Defective(AcmeProvider):
    async def dial(self, request):
        off = type(request.machine_detection).OFF
        return await super().dial(request.model_copy(update={"record": False, "machine_detection": off}))
""",
        {"test_an_option_of_dial_is_sent_or_refused"},
    ),
    "options of a transfer dropped": (
        """
class Defective(AcmeProvider):
    async def transfer(self, call_id, to, *, caller_id=None, status_url="", headers=None):
        return await super().transfer(call_id, to, status_url=status_url)
""",
        {"test_an_option_of_transfer_is_sent_or_refused"},
    ),
    "headers of a dialled call dropped": (
        """
class Defective(AcmeProvider):
    async def dial(self, request):
        return await super().dial(request.model_copy(update={"headers": {}}))
""",
        {"test_an_option_of_dial_is_sent_or_refused"},
    ),
    "a secret kept with the call": (
        """
class Defective(AcmeProvider):
    async def dial(self, request):
        call = await super().dial(request)
        return call.model_copy(update={"facts": {"login": "Bearer " + self.credential.api_key.get_secret_value()}})
""",
        {"test_dial_is_one_request_and_gives_the_call"},
    ),
    "a secret kept with an incoming call": (
        """
import msgspec

class Defective(AcmeProvider):
    def parse_webhook(self, request):
        event = super().parse_webhook(request)
        if not isinstance(event, IncomingCall):
            return event
        facts = {"login": self.credential.api_key.get_secret_value()}
        return msgspec.structs.replace(event, call=event.call.model_copy(update={"facts": facts}))
""",
        {
            "test_an_event_keeps_the_original_and_an_id_for_redelivery",
            "test_a_webhook_becomes_exactly_its_event",
        },
    ),
    "the ticket of the header never told": (
        """
class Defective(AcmeProvider):
    ticket_place = TicketPlace.HEADER
""",
        {"test_dial_is_one_request_and_gives_the_call", "test_answer_connects_the_stream"},
    ),
    "what a regulated number lacks goes unsaid": (
        """
class Defective(AcmeProvider):
    requirement_codes = {"no_address": NumberRequirement.ADDRESS}

    def error(self, operation, status, *, code=None, message="", headers=None):
        return super().error(operation, status, message=message, headers=headers)
""",
        {"test_a_regulated_number_is_refused_with_what_it_lacks"},
    ),
    "options of a search dropped": (
        """
class Defective(AcmeProvider):
    async def search_numbers(self, query):
        return await super().search_numbers(query.model_copy(update={"page": 1, "contains": None}))
""",
        {"test_an_option_of_search_numbers_is_sent_or_refused"},
    ),
    "a place to search in dropped": (
        """
class Defective(AcmeProvider):
    async def search_numbers(self, query):
        return await super().search_numbers(query.model_copy(update={"locality": None, "region": None}))
""",
        {"test_an_option_of_search_numbers_is_sent_or_refused"},
    ),
    "search refused although its cassette is there": (
        """
class Defective(AcmeProvider):
    async def search_numbers(self, query):
        if query.type:
            raise self.unsupported("search_numbers", "acme knows no types")
        return await super().search_numbers(query)
""",
        {"test_search_numbers_answers"},
    ),
    "one serializer for all calls": (
        """
class Defective(AcmeProvider):
    shared = AcmeSerializer()

    def serializer(self):
        self.shared.open = False
        return self.shared
""",
        {"test_two_streams_of_one_provider_share_nothing"},
    ),
    "relayed audio is other audio": (
        """
class Lying(AcmeSerializer):
    def relay(self, frame):
        return "AAAA" if '"audio"' in str(frame) else None

    def encode_relayed(self, base64_audio):
        return self.send({"type": "audio", "data": base64_audio})[0]

class Defective(AcmeProvider):
    def serializer(self):
        return Lying()
""",
        {"test_relaying_changes_nothing"},
    ),
    "relayed audio is framed otherwise": (
        """
class Lying(AcmeSerializer):
    def encode_relayed(self, base64_audio):
        return self.send({"type": "audio"})[0]

class Defective(AcmeProvider):
    def serializer(self):
        return Lying()
""",
        {"test_relaying_changes_nothing"},
    ),
    "clear sent before the start": (
        """
class Clear(AcmeSerializer):
    def encode_clear(self):
        return ['{"type":"clear"}']

class Defective(AcmeProvider):
    def serializer(self):
        return Clear()
""",
        {"test_sending_before_start_and_after_stop_is_our_error"},
    ),
    "one event id for a whole call": (
        """
import msgspec

class Defective(AcmeProvider):
    def parse_webhook(self, request):
        event = super().parse_webhook(request)
        return msgspec.structs.replace(event, event_id=event.call_id or event.event_id)
""",
        {"test_two_events_have_two_ids", "test_a_webhook_becomes_exactly_its_event"},
    ),
    "a failed transfer counts as done": (
        """
class Defective(AcmeProvider):
    async def transfer(self, call_id, to, **options):
        try:
            await super().transfer(call_id, to, **options)
        except ProviderError:
            pass
""",
        {"test_a_capability_that_fails_says_so_and_shows_no_secret"},
    ),
    "a secret in the error of a fetch": (
        """
class Defective(AcmeProvider):
    async def fetch_call(self, call_id):
        try:
            return await super().fetch_call(call_id)
        except ProviderUnavailable as failed:
            key = self.credential.api_key.get_secret_value()
            raise ProviderUnavailable("acme", "fetch_call", f"with {key}", status=failed.status) from None
""",
        {"test_a_capability_that_fails_says_so_and_shows_no_secret"},
    ),
    "a secret in the error of a hang-up": (
        """
class Defective(AcmeProvider):
    async def hang_up(self, call_id):
        try:
            await super().hang_up(call_id)
        except ProviderError as failed:
            key = self.credential.api_key.get_secret_value()
            raise type(failed)("acme", "hang_up", f"with {key}", status=failed.status) from None
""",
        {"test_secrets_are_in_no_error_and_no_log"},
    ),
    "the key in the refusal of a signature": (
        """
class Defective(AcmeProvider):
    def verify(self, request):
        try:
            super().verify(request)
        except SignatureInvalid:
            raise SignatureInvalid("not by " + self.credential.api_key.get_secret_value()) from None
""",
        {"test_a_refused_signature_shows_neither_key_nor_signature"},
    ),
    "the right signature in the refusal of a wrong one": (
        """
class Defective(AcmeProvider):
    def verify(self, request):
        try:
            super().verify(request)
        except SignatureInvalid:
            key = self.credential.api_key.get_secret_value().encode()
            raise SignatureInvalid("not " + hmac.digest(key, request.body, "sha256").hex()) from None
""",
        {"test_a_refused_signature_shows_neither_key_nor_signature"},
    ),
    "more facts than a call keeps": (
        """
class Defective(AcmeProvider):
    async def fetch_call(self, call_id):
        call = await super().fetch_call(call_id)
        return call.model_copy(update={"facts": {"page": "x" * 5000}})
""",
        {"test_a_declared_capability_answers_and_an_undeclared_one_says_so"},
    ),
    "caller and callee swapped by dial": (
        """
class Defective(AcmeProvider):
    async def dial(self, request):
        call = await super().dial(request)
        return call.model_copy(update={"from_": call.to, "to": call.from_})
""",
        {"test_dial_is_one_request_and_gives_the_call"},
    ),
    "a call declined by saying nothing": (
        """
class Defective(AcmeProvider):
    async def reject(self, call, reason=None):
        return WebhookReply()
""",
        {"test_a_declared_capability_answers_and_an_undeclared_one_says_so"},
    ),
    "errors all alike": (
        """
class Defective(AcmeProvider):
    def error(self, operation, status, *, code=None, message="", headers=None):
        return RequestRejected(self.name, operation, "it did not work", status=status)
""",
        {"test_a_failure_has_its_own_error", "test_throttling_tells_how_long_to_wait_when_the_carrier_does"},
    ),
    "timeouts escape": (
        """
class Defective(AcmeProvider):
    async def request(self, method, path, *, operation, json=None, params=None, extra=None):
        answer = await self.http.request(method, self.base_url + path, json={**(json or {}), **(extra or {})} or None,
                                         params={**(params or {}), **((extra or {}) if json is None else {})},
                                         headers=self.headers())
        return self.read(answer, operation)
""",
        {
            "test_a_failed_dial_is_never_sent_again",
            "test_a_failure_has_its_own_error",
            "test_a_request_that_cannot_be_written_is_no_call_of_unknown_outcome",
            "test_an_id_that_is_no_calls_has_the_carriers_answer_or_a_typed_error",
        },
    ),
    "odd ids have errors of Python's": (
        """
class Defective(AcmeProvider):
    async def fetch_call(self, call_id):
        if not call_id:
            raise ValueError("call_id is empty")
        return await super().fetch_call(call_id)
""",
        {"test_an_id_that_is_no_calls_has_the_carriers_answer_or_a_typed_error"},
    ),
    "answer goes nowhere": (
        """
class Defective(AcmeProvider):
    async def answer(self, call, stream):
        return WebhookReply()
""",
        {"test_answer_connects_the_stream"},
    ),
    "hang-up only pretends": (
        "class Defective(AcmeProvider):\n    async def hang_up(self, call_id):\n        return None\n",
        {
            "test_hang_up_answers",
            "test_hanging_up_a_call_that_is_over_is_no_error",
            "test_a_failure_has_its_own_error",
        },
    ),
    "a required method not written": (
        """
class Defective(AcmeProvider):
    async def answer(self, call, stream):
        raise NotImplementedError("tell the carrier where the audio goes")
""",
        {"test_every_required_method_is_written"},
    ),
    "declared but not there": (
        """
class Defective(AcmeProvider):
    async def send_digits(self, call_id, digits):
        raise NotImplementedError
""",
        {
            "test_a_capability_that_fails_says_so_and_shows_no_secret",
            "test_a_declared_capability_answers_and_an_undeclared_one_says_so",
        },
    ),
    "a question for instructions, and no answer to it": (
        """
class Defective(AcmeProvider):
    def parse_webhook(self, request):
        event = super().parse_webhook(request)
        if type(event) is not CallProgress or event.call.status is not CallStatus.ANSWERED:
            return event
        return InstructionsRequested(
            call=event.call, call_id=event.call_id, reference=event.reference, event_id=event.event_id,
            occurred_at=event.occurred_at, raw=event.raw, purpose=InstructionsFor.ANSWERED,
        )
""",
        {
            "test_a_webhook_becomes_exactly_its_event",  # Acme's cassettes show none
            "test_a_question_for_instructions_has_an_answer",
        },
    ),
}


@pytest.fixture
def run_kit(pytester: pytest.Pytester) -> Iterator[object]:
    before = set(sys.modules)
    pytester.syspathinsert(ACME / "src")
    left_out = shutil.ignore_patterns("ended_*", "ringing*")  # more of the same: they cost time and show nothing new
    shutil.copytree(ACME / "tests" / "cassettes", pytester.path / "cassettes", ignore=left_out)

    def run(source: str, more: str = "") -> set[str]:
        pytester.makepyfile(HEAD + source + TAIL + more)
        result = pytester.runpytest_inprocess("-q", *WITHOUT, "--tb=line", "-W", "ignore")
        run.shown = result.stdout.str()
        outcomes = result.parseoutcomes()
        assert outcomes.get("passed", 0) > 60, "the kit did not run"
        assert "errors" not in outcomes
        failed = re.findall(r"^FAILED \S+::(test_\w+)", result.stdout.str(), re.MULTILINE)
        return set(failed)

    yield run
    plugins.reset()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_sound_provider_passes_all_of_it(run_kit) -> None:
    assert run_kit(SOUND) == set()


LOGS_IN = """
class Defective(AcmeProvider):
    token = ""

    def headers(self):
        return {"authorization": f"Bearer {self.token}"}

    async def log_in(self, operation):
        answer = await self.http.post("https://login.acme.example/token")
        self.token = answer.json()["token"]
"""


def test_a_token_that_is_fetched_first_is_no_second_request_of_an_operation(run_kit) -> None:
    """The kit's providers have logged in before: its cassettes need no login, and its failures are the operation's."""
    assert run_kit(LOGS_IN) == set()


LOGIN_ONLY = """
class Defective(AcmeProvider):
    signs_webhooks = {signs}

    def verify(self, request):
        if request.header("authorization") != "Basic dGVzdDp0ZXN0":
            raise SignatureInvalid("acme webhook: the login is missing or wrong")
"""

SIGNED_BY_LOGIN = """
    def sign(self, request):
        return replace(request, headers={**request.headers, "authorization": "Basic dGVzdDp0ZXN0"})
"""


@pytest.mark.parametrize(("signs", "failed"), [(False, set()), (True, {"test_one_byte_changed_is_refused"})])
def test_a_carrier_that_only_logs_in_to_our_url_says_so(run_kit, signs: bool, failed: set[str]) -> None:
    assert run_kit(LOGIN_ONLY.format(signs=signs), SIGNED_BY_LOGIN) == failed


BINARY = """
class Binary(AcmeSerializer):
    stop_frame, marks = False, False

    def decode(self, frame):
        if isinstance(frame, bytes):
            if not self.open or not frame:
                raise MalformedMessage("acme sent audio before the start, or none", frame)
            return [AudioReceived(frame)]
        return super().decode(frame)

    def encode_audio(self, payload):
        if not self.open:
            raise StreamNotOpen("not open")
        return [payload] if payload else []

    encode_mark = None

class Defective(AcmeProvider):
    def serializer(self):
        return Binary()
"""


def binary_cassette(*more: object) -> str:
    """A stream of binary audio, which ends as its socket is closed."""
    audio = {"binary": "AP8BgA=="}
    lines = [
        {"provenance": "documented", "source": "this test"},
        {"frame": {"type": "start", "call": "call_1"}, "events": [{"type": "StreamStarted", "call_id": "call_1"}]},
        {"frame": audio, "events": [{"type": "AudioReceived", "payload": "AP8BgA=="}]},
        {"encode_audio": "AP8BgA==", "frames": [audio]},
        {"encode_clear": None, "frames": [{"type": "clear"}]},
        *more,
    ]
    return "\n".join(map(json.dumps, lines))


def test_a_carrier_of_binary_audio_without_stop_frame_and_marks_passes(run_kit, pytester: pytest.Pytester) -> None:
    cassette = pytester.path / "cassettes" / "streams" / "conversation.jsonl"
    cassette.write_text(binary_cassette())
    assert run_kit(BINARY) == set()
    text = BINARY.replace("return [payload] if payload else []", "return [payload.decode('latin-1')]")
    assert run_kit(text) == {
        "test_audio_survives_encode_and_decode",
        "test_frames_become_exactly_their_events_and_ours_the_carriers_frames",
    }
    sniffs = BINARY.replace("isinstance(frame, bytes):", "isinstance(frame, bytes) and frame[:1] != b'{':")
    assert run_kit(sniffs) == {"test_audio_survives_encode_and_decode"}, "audio that begins like JSON is audio"
    stop = {"frame": {"type": "stop", "name": "x"}, "events": [{"type": "StreamStopped", "reason": "x"}]}
    cassette.write_text(binary_cassette(stop))
    assert run_kit(BINARY) == {"test_a_stream_with_start_audio_and_stop_is_among_the_cassettes"}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_seen_by_the_check_meant_for_it(run_kit, defect: str) -> None:
    source, expected = DEFECTS[defect]
    assert run_kit(source) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("webhooks/incoming.json", "test_an_incoming_call_is_among_the_cassettes"),
        ("webhooks/unknown.json", "test_an_unknown_kind_is_among_the_cassettes"),
        ("streams/conversation.jsonl", "test_a_stream_with_start_audio_and_stop_is_among_the_cassettes"),
        ("rest/dial.yaml", "test_dial_is_one_request_and_gives_the_call"),
        ("rest/transfer.yaml", "test_a_declared_capability_answers_and_an_undeclared_one_says_so"),
    ],
)
def test_a_missing_cassette_is_a_failure_and_no_skip(
    run_kit, pytester: pytest.Pytester, change: str, expected: str
) -> None:
    (pytester.path / "cassettes" / change).unlink()
    assert expected in run_kit(SOUND)


@pytest.mark.parametrize(
    ("cassette", "renamed"),
    [
        ("rest/transfer.yaml", "rest/send_digits.yaml"),  # a capability that acme does not declare
        ("rest/transfer.yaml", "rest/transfer_call.yaml"),
        ("rest/fetch_call.yaml", "rest/fetch_call.yml"),
        ("webhooks/answered.json", "webhooks/progress/answered.json"),
        ("streams/conversation.jsonl", "streams/conversation.json"),
    ],
)
def test_a_cassette_that_nothing_plays_is_a_failure_and_named(
    run_kit, pytester: pytest.Pytester, cassette: str, renamed: str
) -> None:
    path = pytester.path / "cassettes" / renamed
    path.parent.mkdir(exist_ok=True)
    shutil.copy(pytester.path / "cassettes" / cassette, path)
    assert run_kit(SOUND) == {"test_every_cassette_is_one_that_a_check_plays"}
    assert f"no check plays these cassettes: {renamed}" in run_kit.shown


def test_a_request_on_a_cassette_that_is_never_sent_is_a_failure(run_kit, pytester: pytest.Pytester) -> None:
    rest = pytester.path / "cassettes" / "rest"
    kept, other = (yaml.safe_load((rest / name).read_text()) for name in ("transfer.yaml", "fetch_call.yaml"))
    kept["interactions"] += other["interactions"]
    (rest / "transfer.yaml").write_text(yaml.safe_dump(kept))
    assert run_kit(SOUND) == {"test_a_declared_capability_answers_and_an_undeclared_one_says_so"}


def test_a_cassette_of_ones_own_is_played_by_the_operation_named_for_it(run_kit, pytester: pytest.Pytester) -> None:
    rest = pytester.path / "cassettes" / "rest"
    shutil.copy(rest / "transfer.yaml", rest / "transfer_again.yaml")
    played = "    also_played = {{'transfer_again': lambda provider: provider.{}}}\n"
    assert run_kit(SOUND, played.format("transfer('call-0123456789abcdef', '+14155550123')")) == set()
    assert run_kit(SOUND, played.format("hang_up('call-0123456789abcdef')")) == {
        "test_a_cassette_of_ones_own_plays_to_its_end"
    }


def test_the_kit_has_a_check_for_every_capability_and_every_option() -> None:
    assert set(CHECKS) == set(Capability)
    for model, options in ((DialRequest, DIAL_OPTIONS), (NumberQuery, SEARCH_OPTIONS)):
        assert {name.partition("=")[0].partition(".")[0] for name in options} - {"stream"} == optional_fields(model)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"provenance": "documented"', '"provenance": "trust me"', "test_every_cassette_says_where_it_came_from"),
        ("+14155550123", "+1415555" + "2671", "test_cassettes_hold_no_secret_and_no_real_number"),
        ("evt_1", "KEY0123456789ABCDEF0123", "test_cassettes_hold_no_secret_and_no_real_number"),
    ],
)
def test_a_cassette_with_something_real_or_no_origin_is_a_failure(
    run_kit, pytester: pytest.Pytester, old: str, new: str, expected: str
) -> None:
    path = pytester.path / "cassettes" / "webhooks" / "incoming.json"
    path.write_text(path.read_text().replace(old, new))
    assert expected in run_kit(SOUND)


def test_recording_without_an_account_stops_at_once_and_says_what_it_needs(
    run_kit, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANYCARRIER_LIVE_ACME", raising=False)
    before = (pytester.path / "cassettes" / "rest" / "dial.yaml").read_text()
    pytester.makepyfile(HEAD + SOUND + TAIL)
    result = pytester.runpytest_inprocess("-q", *WITHOUT, "-W", "ignore", "--record")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ANYCARRIER_LIVE_ACME must be JSON with credential, from, to" in result.stdout.str() + result.stderr.str()
    assert (pytester.path / "cassettes" / "rest" / "dial.yaml").read_text() == before


async def test_recording_from_a_live_account_scrubs_and_says_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is acme's sandbox, reached as a live one would be."""
    import anycarrier_acme as acme

    real = "+1415555" + "2671"
    with pytest.raises(LookupError, match="ANYCARRIER_LIVE_ACME must be JSON with credential"):
        await record_live(acme.AcmeProvider, tmp_path)
    async with serve_sandbox(sandbox_type("acme")) as sandbox:
        sandbox.add_number(real)
        facts = {
            "credential": {"api_key": "s3cret-of-acme-0001", "base_url": sandbox.base_url},
            "from": real,
            "to": real[:-1] + "2",
            "webhook_url": "https://mine.example/hooks/acme",
            "media_url": "wss://mine.example/media/acme-live-ticket",
        }
        monkeypatch.setenv("ANYCARRIER_LIVE_ACME", json.dumps(facts))
        done = await asyncio.wait_for(record_live(acme.AcmeProvider, tmp_path, patience=0), 20)
        dials = [asked for asked in sandbox.requests if asked.method == "POST"]
    assert len(dials) == 1, "it rings once, and what costs money for good is left out"
    assert {"search_numbers.yaml", "dial.yaml", "fetch_call.yaml", "hang_up.yaml"} <= set(done)
    assert {provenance_of(path)[0] for path in files(tmp_path)} == {"recorded"}
    assert scan(tmp_path) == []
    text = "".join(path.read_text() for path in files(tmp_path))
    for gone in ("s3cret", real[2:-1], "mine.example", "127.0.0.1"):
        assert gone not in text
