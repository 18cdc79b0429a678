"""SignalWire without an account: its Compatibility API, cXML, signed webhooks, and media streams, simulated.

Written from the carrier's documents, not from the adapter, so that each checks the other. Requests for what it does not
simulate (other verbs, conferences, applications, MP3) are refused, never ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from anycarrier.credentials import Credential
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Delivery, Sandbox
from anycarrier.testing.sandbox_numbers import Login, login_of
from anycarrier_signalwire.sandbox import calls, cxml, phone_numbers, recordings, rest
from anycarrier_signalwire.sandbox.leg import Leg
from anycarrier_signalwire.sandbox.models import (
    Callback,
    CallOptions,
    Complaint,
    End,
    Instructions,
    Project,
    new_id,
    new_key,
    rfc2822,
)
from anycarrier_signalwire.sandbox.rest import BASE, Operation, Reply, Rest
from anycarrier_signalwire.sandbox.webhooks import InsistingSender, signed, webhook

if TYPE_CHECKING:
    from pydantic import SecretStr


class SignalWireSandbox(Sandbox):
    """See the module; ``log`` is the space's error log, as the dashboard shows it."""

    provider = "signalwire"

    webhook_timeout = 5.0
    """Seconds a webhook may take."""
    retry_seconds = 0.5
    """How long a status callback that was not accepted waits before it is sent again."""
    ring_seconds = 0.05
    """How long each step of ringing takes, where the callee takes no longer."""
    detect_seconds = 0.3
    """How long answering-machine detection listens before it judges."""
    digit_seconds = 0.05
    """How long a key that is pressed on answer sounds."""
    release_after = 0.0
    """Seconds a number that was bought has to be kept."""

    def __init__(self, *, base_url: str, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(base_url=base_url, http=http)
        self.webhooks = InsistingSender(self._http, self.start, self.quirks, lambda: self.retry_seconds)
        self.log: list[Complaint] = []
        self.project = Project(new_id(), new_key("PSK"))
        self.projects = {self.project.sid: self.project}
        self.fax_numbers: set[str] = set()
        self.bought_at: dict[str, float] = {}
        self.clock: Callable[[], float] = asyncio.get_running_loop().time
        # No routes: every path is read in `rest`, also those that Starlette's patterns refuse.
        self.app = Starlette(exception_handlers={404: self._rest})

    async def _rest(self, request: Request, _: Exception) -> Response:
        return await rest.answer(self, OPERATIONS, request)

    # --- who logs in ----------------------------------------------------------------------------------------------

    def credential(self, **overrides: Any) -> Credential:
        from anycarrier_signalwire import SignalWireCredential

        fields = {
            "space": "example.signalwire.com",
            "project_id": self.project.sid,
            "api_token": new_key("PT"),
            "signing_key": self.project.signing_key,
            "base_url": self.base_url,
        }
        credential = SignalWireCredential.model_validate({**fields, **overrides})
        self.open_account(credential)
        return credential

    def open_account(self, credential: Credential) -> None:
        """Webhooks of the credential's project are signed with its signing key from now on, if its token logs in."""
        sid: str = credential.project_id  # type: ignore[attr-defined]
        key: SecretStr = credential.signing_key  # type: ignore[attr-defined]
        token: SecretStr = credential.api_token  # type: ignore[attr-defined]
        project = self.open_project(sid)
        if login_of(token.get_secret_value()) is Login.GOOD:
            project.signing_key = key.get_secret_value()

    def open_project(self, sid: str) -> Project:
        """The project of that id, made when it is new."""
        return self.projects.setdefault(sid, Project(sid, new_key("PSK")))

    def add_number(self, number: str, project_id: str | None = None) -> None:
        """Give a project (the sandbox's own when none is named) a number it owns already."""
        project = self.projects[project_id] if project_id else self.project
        if project.number(number) is None:
            phone_numbers.own(project, number, frozenset({"voice", "sms", "mms"}))
            self.inventory.sold.add(number)

    def give_number(self, number: str, credential: Credential) -> None:
        """Give a credential's project a number, and take it from any other: a number is owned once."""
        self.open_account(credential)
        owner = self.projects[credential.project_id]  # type: ignore[attr-defined]
        for project in self.projects.values():
            if project is not owner and (held := project.number(number)) is not None:
                del project.numbers[held["sid"]]
        self.add_number(number, owner.sid)

    # --- calls ----------------------------------------------------------------------------------------------------

    async def ring(
        self, to: str, from_: str, *, said: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> FarEnd:
        """``headers`` are ``X-`` headers and User-to-User, of calls that come by SIP."""
        for project in self.projects.values():
            if (owned := project.number(to)) is not None:
                break
        else:
            raise LookupError(f"no project at this sandbox owns {to}")
        options = self._inbound(owned)
        if options.instructions is None:
            self.complain(21205, f"{to} has no voice URL, receives faxes, or has an application that is not here")
        leg = self.place(project, direction="inbound", from_=from_, to=to, options=options, sip_headers=headers)
        if said:
            self.start(leg.far_end.say(said))
        await asyncio.sleep(0)
        return leg.far_end

    def _inbound(self, owned: Mapping[str, Any]) -> CallOptions:
        """How a call to an owned number is handled."""
        lost = owned["voice_application_sid"] or owned["sid"] in self.fax_numbers or not owned["voice_url"]
        fallback_url, told = owned["voice_fallback_url"], owned["status_callback"]
        fallback = Instructions(fallback_url, owned["voice_fallback_method"]) if fallback_url else None
        instructions = Instructions(owned["voice_url"] or "", owned["voice_method"], fallback=fallback)
        return CallOptions(
            instructions=None if lost else instructions,
            status_callback=Callback(told, owned["status_callback_method"]) if told else None,
            of_number=True,
        )

    def place(
        self,
        project: Project,
        *,
        direction: str,
        from_: str,
        to: str,
        options: CallOptions,
        parent: Leg | None = None,
        sip_headers: Mapping[str, str] | None = None,
    ) -> Leg:
        """Start a call on its life."""
        leg = Leg(
            self, project, direction=direction, from_=from_, to=to, options=options, parent=parent,
            sip_headers=sip_headers,
        )  # fmt: skip
        self.start(leg.live())
        return leg

    async def run_cxml(self, leg: Leg, instructions: Instructions) -> Instructions | End:
        """Run instructions on a leg; what comes next."""
        return await cxml.run(leg, instructions)

    async def play_digit(self, leg: Leg, digit: str) -> None:
        """Sound one key at the far end; ``w`` and ``W`` are pauses of half a second and a second."""
        pauses = {"w": 0.5, "W": 1.0}
        await asyncio.sleep(pauses.get(digit, self.digit_seconds))
        if digit not in pauses:
            leg.far_end.digits += digit

    # --- webhooks -------------------------------------------------------------------------------------------------

    async def ask(self, kind: str, leg: Leg, url: str, params: Mapping[str, str], method: str) -> Delivery:
        """A webhook whose reply matters. It is not sent again: a fallback URL is asked instead."""
        delivery = await self.webhooks.post(self._webhook(kind, leg, url, params, method))
        if "duplicate" in self.quirks:
            await self.webhooks.post(delivery.again())
        return delivery

    def notify(self, kind: str, leg: Leg, url: str, params: Mapping[str, str], method: str) -> None:
        """A webhook that only tells, sent again where it was not accepted."""
        self.webhooks.notify(self._webhook(kind, leg, url, params, method))

    def sign(self, delivery: Delivery) -> Delivery:
        return signed(delivery, self._project_of(delivery).signing_key)

    def forge(self, delivery: Delivery, **changes: Any) -> Delivery:
        """``delivery`` with parameters changed and the old signature kept: what a forger could send."""
        changed = webhook(
            delivery.kind, delivery.call_id, delivery.url, {**delivery.params, **changes}, key="",
            method=delivery.method, timeout=delivery.timeout,
        )  # fmt: skip
        return changed.again(headers=delivery.headers)

    def complain(self, code: int, message: str, leg: Leg | None = None) -> None:
        """Write into the log."""
        self.log.append(Complaint(code, message, leg.sid if leg else ""))

    def _webhook(self, kind: str, leg: Leg, url: str, params: Mapping[str, str], method: str) -> Delivery:
        key = leg.project.signing_key
        return webhook(kind, leg.sid, url, params, key=key, method=method, timeout=self.webhook_timeout)

    def _project_of(self, delivery: Delivery) -> Project:
        return next(project for project in self.projects.values() if delivery.call_id in project.calls)


RESOURCES = (
    "applications available_phone_numbers calls conferences incoming_phone_numbers messages queues recordings "
    "transcriptions"
).split()
NO_RESOURCES = (
    "addresses authorized_connect_apps connect_apps keys notifications outgoing_caller_ids sandbox short_codes sip "
    "usage"
).split()
"""What the document lists of a project, with an address and without one."""


async def _fetch_project(rest: Rest) -> Reply:
    project = rest.project
    body = {
        "sid": project.sid,
        "friendly_name": "Sandbox project",
        "status": "active",
        "auth_token": "redacted",
        "date_created": rfc2822(project.created),
        "date_updated": rfc2822(project.created),
        "type": "Full",
        "owner_account_sid": project.sid,
        "region_preference": "us-east",
        "uri": project.path,
        "subproject": False,
        "signing_key": None,
        "subresource_uris": {
            **dict.fromkeys(NO_RESOURCES),
            **{name: f"{project.path}/{''.join(map(str.title, name.split('_')))}" for name in RESOURCES},
        },
    }
    return Reply(200, body)


OPERATIONS = [
    Operation("GET", BASE, _fetch_project),
    *phone_numbers.OPERATIONS,
    *calls.OPERATIONS,
    *recordings.OPERATIONS,
]
