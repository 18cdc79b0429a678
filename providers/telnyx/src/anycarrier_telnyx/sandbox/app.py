"""Telnyx without an account: its REST API, signed webhooks, and media streams, simulated for tests and demos.

Written from the carrier's documents, not from the adapter, so that each checks the other. Requests for what it does not
simulate (:data:`UNSUPPORTED`, transcription, MP3, codecs other than PCMU, PCMA, and L16) are refused with code 10038.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
from nacl.signing import SigningKey
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anycarrier.credentials import Credential
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Delivery, Sandbox
from anycarrier_telnyx.sandbox import account_settings, parameters, phone_numbers, recordings
from anycarrier_telnyx.sandbox.account import Account, public_key
from anycarrier_telnyx.sandbox.calls import call_operations
from anycarrier_telnyx.sandbox.leg import Leg
from anycarrier_telnyx.sandbox.rest import Operation, build_app
from anycarrier_telnyx.sandbox.webhooks import RetryingSender, envelope, event_id, pack, signature_headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

API_KEY = "KEYsandbox"
WEBHOOK_TIMEOUT = 2.0


class TelnyxSandbox(Sandbox):
    """One account per API key; :meth:`credential` is the first's. Further quirks: ``shuffle_media`` (media frames
    overtake each other), ``no_transcoding`` (``stream_codec`` is not obeyed), ``late_answer`` (the answer command takes
    effect after 0.3 s).
    """

    provider: ClassVar[str] = "telnyx"

    def __init__(self, *, base_url: str, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(base_url=base_url, http=http)
        self.webhooks: RetryingSender = RetryingSender(self._http, self.start, self.quirks, self.sign)
        self.codec = "PCMU"
        """What the telephone network speaks on every leg: PCMU, PCMA or L16."""
        self.frame_ms = 20
        """Sound in one media frame to the platform."""
        self.pace = 1.0
        """How fast the carrier's and callees' clocks run: ringing, patience, time limits. Speech keeps real time."""
        self.pending_for = 3.0
        """Seconds the order of the pending number stays pending."""
        self.accounts: dict[str, Account] = {}
        self.app: ASGIApp = build_app(self, operations(), [Route("/recording-files/{name}", self._file)])
        self._owners: dict[str, Account] = {}
        self.account(API_KEY)

    # --- the account ----------------------------------------------------------------------------------------------

    def account(self, api_key: str) -> Account:
        """The account of an API key, opened when the key is new."""
        if api_key not in self.accounts:
            self.accounts[api_key] = Account(api_key)
        return self.accounts[api_key]

    def credential(self, **overrides: Any) -> Credential:
        """A credential for an account here; another ``api_key`` is another account, with its own public key."""
        from anycarrier_telnyx import TelnyxCredential

        api_key = overrides.get("api_key", API_KEY)
        given = {
            "api_key": api_key,
            "public_key": public_key(api_key),
            "connection_id": self.account(api_key).first_application,
            "base_url": self.base_url,
        }
        return TelnyxCredential.model_validate({**given, **overrides})

    def open_account(self, credential: Credential) -> None:
        """The account of a credential somebody made; it is signed for with a key derived from its API key."""
        self.account(credential.secrets()[0])

    def add_number(self, number: str, *, api_key: str = API_KEY) -> None:
        """Give the account a number; it is connected to nothing yet."""
        self.account(api_key).add_number(number)

    def verify_number(self, number: str, *, api_key: str = API_KEY) -> None:
        """Let the account show a number of another carrier, as its owner verified in the portal."""
        self.account(api_key).verify(number)

    def give_number(self, number: str, credential: Credential) -> None:
        """Give a credential's account a number, and take it from any other: a number is owned once."""
        api_key = credential.secrets()[0]
        for account in self.accounts.values():
            held = account.number(number)
            if held is not None and account is not self.account(api_key):
                del account.numbers[held["id"]]
        if self.account(api_key).number(number) is None:
            self.account(api_key).add_number(number)

    # --- webhooks -------------------------------------------------------------------------------------------------

    def tell(
        self,
        account: Account,
        kind: str,
        payload: Mapping[str, Any],
        *,
        url: str,
        connection_id: str,
        call_id: str = "",
        retries_ms: Sequence[int] | None = None,
    ) -> None:
        """Post an event, now or soon. Without a URL there is nobody to tell."""
        if not url:
            return
        application = account.applications.get(connection_id, {})
        message = envelope(kind, payload, url=url, version=application.get("webhook_api_version", "2"))
        timeout = application.get("webhook_timeout_secs") or WEBHOOK_TIMEOUT
        delivery = Delivery(kind, call_id, "POST", url, body=pack(message), params=message, timeout=timeout)
        self._owners[event_id(delivery)] = account
        if retries_ms is not None:
            self.webhooks.policies[event_id(delivery)] = tuple(wait / 1000 for wait in retries_ms)
        self.webhooks.failovers[event_id(delivery)] = application.get("webhook_event_failover_url") or ""
        self.webhooks.notify(self.sign(delivery))

    def sign(self, delivery: Delivery) -> Delivery:
        """``delivery`` signed now with the key of the account it belongs to."""
        owner = self._owners.get(event_id(delivery)) or self.account(API_KEY)
        return delivery.again(headers=signature_headers(owner.key, delivery.body))

    async def forge(self, index: int = -1) -> Delivery:
        """Send a past webhook as somebody else would: the same words, signed with a key that is not ours."""
        past = self.deliveries[index]
        return await self.webhooks.post(past.again(headers=signature_headers(SigningKey.generate(), past.body)))

    # --- calls ----------------------------------------------------------------------------------------------------

    async def ring(
        self, to: str, from_: str, *, said: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> FarEnd:
        """Somebody rings a number of ours. ``LookupError`` when it is nobody's, or its events would go nowhere.

        ``headers`` are custom headers of a call that comes by SIP.
        """
        for account in self.accounts.values():
            number = account.number(to)
            if number is not None:
                break
        else:
            raise LookupError("no account here has this number: add_number() or order it first")
        connection = number["connection_id"] or ""
        if not account.applications.get(connection, {}).get("webhook_event_url"):
            raise LookupError("the number is connected to no application with a webhook_event_url: configure it first")
        leg = Leg(
            self, account, incoming=True, from_=from_, to=to, connection_id=connection, headers=headers
        )
        if said:
            leg.begin(self._say(leg, said))
        leg.initiated()
        return leg.far_end

    async def _say(self, leg: Leg, said: bytes) -> None:
        await leg.far_end.say(said)

    async def pause(self, seconds: float) -> None:
        """Let the carrier's time pass."""
        await asyncio.sleep(seconds / self.pace)

    async def _file(self, request: Request) -> Response:
        return recordings.download(self.accounts.values(), request.path_params["name"], request.query_params)


UNSUPPORTED_COMMANDS = """
    ai_assistant_add_messages ai_assistant_join ai_assistant_start ai_assistant_stop conversation_relay_start
    conversation_relay_stop enqueue fork_start fork_stop gather gather_stop gather_using_ai gather_using_audio
    gather_using_speak leave_queue pay playback_start playback_stop send_sip_info siprec_start siprec_stop
    suppression_start suppression_stop switch_supervisor_role transcription_start transcription_stop
""".split()

UNSUPPORTED: list[tuple[str, str]] = [
    *(("POST", f"/calls/{{id}}/actions/{name}") for name in UNSUPPORTED_COMMANDS),
    ("GET", "/call_events"),
    ("GET", "/conferences"),
    ("POST", "/conferences"),
    ("GET", "/connections"),
    ("GET", "/connections/{id}"),
    ("GET", "/number_order_phone_numbers"),
    ("GET", "/number_order_phone_numbers/{id}"),
    ("PATCH", "/number_order_phone_numbers/{id}"),
    ("PATCH", "/number_orders/{id}"),
    ("GET", "/number_reservations"),
    ("POST", "/number_reservations"),
    ("GET", "/number_reservations/{id}"),
    ("POST", "/outbound_voice_profiles"),
    ("GET", "/outbound_voice_profiles/{id}"),
    ("PATCH", "/outbound_voice_profiles/{id}"),
    ("DELETE", "/outbound_voice_profiles/{id}"),
    ("GET", "/phone_numbers/voice"),
    ("GET", "/sub_number_orders"),
    ("GET", "/sub_number_orders/{id}"),
    ("PATCH", "/sub_number_orders/{id}"),
    ("POST", "/verified_numbers"),
    ("GET", "/webhook_deliveries"),
    ("GET", "/webhook_deliveries/{id}"),
]


def operations() -> list[Operation]:
    """The whole API. What is not supported comes first, because ``/phone_numbers/voice`` is not a number's id."""
    return [
        *(Operation(method, path, None) for method, path in UNSUPPORTED),
        *call_operations(),
        Operation("GET", "/available_phone_numbers", phone_numbers.search, query=parameters.SEARCH),
        Operation("POST", "/number_orders", phone_numbers.order, parameters.ORDER),
        Operation("GET", "/number_orders", phone_numbers.orders, query=parameters.ORDERS),
        Operation("GET", "/number_orders/{id}", phone_numbers.fetch_order),
        Operation("GET", "/phone_numbers", phone_numbers.owned, query=parameters.OWN_NUMBERS),
        Operation("GET", "/phone_numbers/{id}", phone_numbers.fetch_number),
        Operation("PATCH", "/phone_numbers/{id}", phone_numbers.update_number, parameters.NUMBER_PATCH),
        Operation("DELETE", "/phone_numbers/{id}", phone_numbers.release),
        Operation("GET", "/phone_numbers/{id}/voice", phone_numbers.fetch_voice),
        Operation("PATCH", "/phone_numbers/{id}/voice", phone_numbers.update_voice, parameters.VOICE_PATCH),
        Operation("GET", "/call_control_applications", account_settings.applications, query=parameters.APPLICATIONS),
        Operation("POST", "/call_control_applications", account_settings.create_application, parameters.APPLICATION),
        Operation("GET", "/call_control_applications/{id}", account_settings.fetch_application),
        Operation(
            "PATCH",
            "/call_control_applications/{id}",
            account_settings.update_application,
            parameters.APPLICATION_PATCH,
        ),
        Operation("DELETE", "/call_control_applications/{id}", account_settings.delete_application),
        Operation("GET", "/connections/{id}/active_calls", account_settings.active_calls, query=parameters.CURSOR),
        Operation("GET", "/verified_numbers", phone_numbers.verified, query=parameters.PAGE),
        Operation("GET", "/verified_numbers/{id}", phone_numbers.fetch_verified),
        Operation("DELETE", "/verified_numbers/{id}", phone_numbers.delete_verified),
        Operation("GET", "/balance", account_settings.balance),
        Operation("GET", "/outbound_voice_profiles", account_settings.profiles, query=parameters.PROFILES),
        Operation("GET", "/recordings", recordings.list_recordings, query=parameters.RECORDINGS),
        Operation("GET", "/recordings/{id}", recordings.fetch_recording),
        Operation("DELETE", "/recordings/{id}", recordings.delete_recording),
    ]
