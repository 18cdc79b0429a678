"""Twilio without an account: its REST API, TwiML, signed webhooks, and media streams, simulated for tests and demos.

Written from the carrier's documents, not from the adapter, so that each checks the other. Requests for what it does not
simulate (other verbs, conferences, applications, SIP credentials, MP3) are refused, never ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from anycarrier.credentials import Credential
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Delivery, Sandbox
from anycarrier.testing.sandbox_numbers import LOCAL, TOLL_FREE, TOLL_FREE_CODES, Login, login_of
from anycarrier_twilio.carrier_side.calls_api import RestError, StatusCallback
from anycarrier_twilio.carrier_side.messages import API_VERSION, rfc2822
from anycarrier_twilio.carrier_side.twiml import Instructions
from anycarrier_twilio.sandbox import calls, phone_numbers, recordings, rest, twiml
from anycarrier_twilio.sandbox.leg import Leg
from anycarrier_twilio.sandbox.models import Account, CallOptions, Complaint, End, new_sid
from anycarrier_twilio.sandbox.rest import BASE, Operation, Reply, Rest
from anycarrier_twilio.sandbox.webhooks import signed, webhook

if TYPE_CHECKING:
    from pydantic import SecretStr

class TwilioSandbox(Sandbox):
    """See the module; ``debugger`` is the account's error log, as the carrier's console shows it."""

    provider = "twilio"

    webhook_timeout = 15.0
    """Seconds a webhook may take."""
    ring_seconds = 0.05
    """How long each step of ringing takes, where the callee takes no longer."""
    detect_seconds = 0.3
    """How long answering-machine detection listens before it judges."""
    digit_seconds = 0.05
    """How long a played key sounds."""

    def __init__(self, *, base_url: str, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(base_url=base_url, http=http)
        self.debugger: list[Complaint] = []
        self.account = Account(new_sid("AC"), new_sid(""))
        self.accounts = {self.account.sid: self.account}
        # No routes: every path is read in `rest`, also those that Starlette's patterns refuse.
        self.app = Starlette(exception_handlers={404: self._rest})

    async def _rest(self, request: Request, _: Exception) -> Response:
        return await rest.answer(self, OPERATIONS, request)

    # --- who logs in ----------------------------------------------------------------------------------------------

    def credential(self, **overrides: Any) -> Credential:
        from anycarrier_twilio import TwilioCredential

        fields = {"account_sid": self.account.sid, "auth_token": self.account.token, "base_url": self.base_url}
        credential = TwilioCredential.model_validate({**fields, **overrides})
        self.open_account(credential)
        return credential

    def open_account(self, credential: Credential) -> None:
        """Webhooks of the credential's account are signed with its auth token from now on, if that logs in."""
        sid: str = credential.account_sid  # type: ignore[attr-defined]
        token: SecretStr = credential.auth_token  # type: ignore[attr-defined]
        self.logged_in(sid, token.get_secret_value())

    def logged_in(self, sid: str, token: str | None) -> Account:
        """The account of that sid, made when it is new; its token is the last good one (an API key's is None here)."""
        account = self.accounts.setdefault(sid, Account(sid, token or ""))
        if token and login_of(token) is Login.GOOD:
            account.token = token
        return account

    def add_number(self, number: str, account_sid: str | None = None) -> None:
        """Give an account (the sandbox's own when none is named) a number it owns already."""
        account = self.accounts[account_sid] if account_sid else self.account
        if account.number(number) is None:
            kind = TOLL_FREE if number[2:5] in TOLL_FREE_CODES else LOCAL
            phone_numbers.own(account, number, frozenset({"voice", "sms", "mms"}), kind)
            self.inventory.sold.add(number)

    def give_number(self, number: str, credential: Credential) -> None:
        """Give a credential's account a number, and take it from any other: a number is owned once."""
        self.open_account(credential)
        owner = self.accounts[credential.account_sid]  # type: ignore[attr-defined]
        for account in self.accounts.values():
            if account is not owner and (held := account.number(number)) is not None:
                del account.numbers[held["sid"]]
        self.add_number(number, owner.sid)

    # --- calls ----------------------------------------------------------------------------------------------------

    async def ring(
        self, to: str, from_: str, *, said: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> FarEnd:
        """``headers`` are ``X-`` headers and User-to-User, which the carrier passes on for calls that come by SIP."""
        for account in self.accounts.values():
            if (owned := account.number(to)) is not None:
                break
        else:
            raise LookupError(f"no account at this sandbox owns {to}")
        if not owned["voice_url"] or owned["voice_application_sid"] or owned["trunk_sid"]:
            self.complain(11100, f"{to} has no voice URL, or an application or trunk that this sandbox has not")
        leg = self.place(
            account,
            direction="inbound",
            from_=from_,
            to=to,
            options=_inbound(owned),
            number_sid=owned["sid"],
            sip_headers=headers,
        )
        if said:
            self.start(leg.far_end.say(said))
        await asyncio.sleep(0)
        return leg.far_end

    def place(
        self,
        account: Account,
        *,
        direction: str,
        from_: str,
        to: str,
        options: CallOptions,
        parent: Leg | None = None,
        number_sid: str | None = None,
        sip_headers: Mapping[str, str] | None = None,
    ) -> Leg:
        """Start a call on its life."""
        leg = Leg(
            self,
            account,
            direction=direction,
            from_=from_,
            to=to,
            options=options,
            parent=parent,
            number_sid=number_sid,
            sip_headers=sip_headers,
        )
        self.start(leg.live())
        return leg

    async def run_twiml(self, leg: Leg, instructions: Instructions) -> Instructions | End:
        """Run instructions on a leg; what comes next."""
        return await twiml.run(leg, instructions)

    async def play_digit(self, leg: Leg, digit: str) -> None:
        """Sound one key at the far end; ``w`` and ``W`` are pauses of half a second and a second."""
        pauses = {"w": 0.5, "W": 1.0}
        await asyncio.sleep(pauses.get(digit, self.digit_seconds))
        if digit not in pauses:
            leg.far_end.digits += digit

    # --- webhooks -------------------------------------------------------------------------------------------------

    async def ask(self, kind: str, leg: Leg, url: str, params: Mapping[str, str], method: str) -> Delivery:
        """A webhook whose reply matters. A failed connection is tried once more, with the same idempotency token."""
        delivery = self._webhook(kind, leg, url, params, method)
        await self.webhooks.post(delivery)
        if (delivery.failure or "").startswith("Connect"):
            delivery = await self.webhooks.post(delivery.again())
        if "duplicate" in self.quirks:
            await self.webhooks.post(delivery.again())
        return delivery

    def notify(self, kind: str, leg: Leg, url: str, params: Mapping[str, str], method: str) -> None:
        """A webhook that only tells."""
        self.webhooks.notify(self._webhook(kind, leg, url, params, method))

    def sign(self, delivery: Delivery) -> Delivery:
        return signed(delivery, self._account_of(delivery).token)

    def forge(self, delivery: Delivery, **changes: Any) -> Delivery:
        """``delivery`` with parameters changed and the old signature kept: what a forger could send."""
        changed = webhook(
            delivery.kind,
            delivery.call_id,
            delivery.url,
            {**delivery.params, **changes},
            token="",
            method=delivery.method,
            timeout=delivery.timeout,
        )
        return changed.again(headers=delivery.headers)

    def complain(self, code: int, message: str, leg: Leg | None = None) -> None:
        """Write into the debugger."""
        self.debugger.append(Complaint(code, message, leg.sid if leg else ""))

    def _webhook(self, kind: str, leg: Leg, url: str, params: Mapping[str, str], method: str) -> Delivery:
        return webhook(
            kind, leg.sid, url, params, token=leg.account.token, method=method, timeout=self.webhook_timeout
        )

    def _account_of(self, delivery: Delivery) -> Account:
        return next(account for account in self.accounts.values() if delivery.call_id in account.calls)


def _inbound(owned: Mapping[str, Any]) -> CallOptions:
    """How a call to an owned number is handled. An application or trunk would shadow the number's own webhook."""
    shadowed = owned["voice_application_sid"] or owned["trunk_sid"]
    url, fallback_url, told = owned["voice_url"], owned["voice_fallback_url"], owned["status_callback"]
    fallback = Instructions(url=fallback_url, method=owned["voice_fallback_method"]) if fallback_url else None
    instructions = Instructions(url=url, method=owned["voice_method"], fallback=fallback)
    return CallOptions(
        instructions=instructions if url and not shadowed else None,
        status_callback=StatusCallback(told, owned["status_callback_method"] or "POST") if told else None,
    )


async def _fetch_account(rest: Rest) -> Reply:
    account = rest.account
    path = f"/{API_VERSION}/Accounts/{account.sid}"
    links = {"calls": "Calls", "incoming_phone_numbers": "IncomingPhoneNumbers", "recordings": "Recordings"}
    body = {
        "auth_token": account.token,
        "date_created": rfc2822(account.created),
        "date_updated": rfc2822(account.created),
        "friendly_name": "Sandbox account",
        "owner_account_sid": account.sid,
        "sid": account.sid,
        "status": "active",
        "subresource_uris": {name: f"{path}/{file}.json" for name, file in links.items()},
        "type": "Full",
        "uri": f"{path}.json",
    }
    return Reply(200, body)


UNSUPPORTED = {  # path: methods, as the OpenAPI document lists them
    "/AvailablePhoneNumbers": "GET",
    "/AvailablePhoneNumbers/{CountryCode}": "GET",
    "/Applications": "GET POST",
    "/Applications/{Sid}": "GET POST DELETE",
    "/Balance": "GET",
    "/Calls/{CallSid}/Events": "GET",
    "/Calls/{CallSid}/Notifications": "GET",
    "/Calls/{CallSid}/Notifications/{Sid}": "GET",
    "/Calls/{CallSid}/Recordings/{Sid}": "DELETE",
    "/Calls/{CallSid}/Streams": "POST",
    "/Calls/{CallSid}/Streams/{Sid}": "POST",
    "/Conferences": "GET",
    "/Conferences/{Sid}": "GET POST",
    "/Conferences/{Sid}/Participants": "GET POST",
    "/Conferences/{Sid}/Participants/{CallSid}": "GET POST DELETE",
    "/OutgoingCallerIds": "GET POST",
    "/OutgoingCallerIds/{Sid}": "GET POST DELETE",
}


async def _not_supported(rest: Rest) -> NoReturn:
    raise RestError(404, 20404, f"The requested resource {rest.url} is not simulated by this sandbox")


OPERATIONS = [
    Operation("GET", BASE, _fetch_account),
    *phone_numbers.OPERATIONS,
    *calls.OPERATIONS,
    *recordings.OPERATIONS,
    *(
        Operation(method, BASE + path, _not_supported, None)
        for path, methods in UNSUPPORTED.items()
        for method in methods.split()
    ),
    Operation("POST", BASE, _not_supported, None),
    Operation("GET", "/2010-04-01/Accounts", _not_supported, None),
    Operation("POST", "/2010-04-01/Accounts", _not_supported, None),
]
