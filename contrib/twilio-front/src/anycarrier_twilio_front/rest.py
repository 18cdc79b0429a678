"""Twilio's calls API for one bot: dial, read, list, change. Errors have Twilio's shape and codes, numbers masked.

https://www.twilio.com/docs/voice/api/call-resource, https://www.twilio.com/docs/api/errors
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from anycarrier import Call, CallStatus, Direction, EndReason, MachineDetection
from anycarrier.errors import AnycarrierError, InvalidNumber, NumberNotAssigned, StoreUnavailable
from anycarrier.numbers import e164
from anycarrier.redaction import mask_number, redact
from anycarrier.routing import Line
from anycarrier_twilio.carrier_side.calls_api import (
    CallOptions,
    Parameters,
    RestError,
    call_resource,
    page,
    read_callback,
    read_instructions,
    read_login,
    read_options,
)
from anycarrier_twilio.carrier_side.messages import API_VERSION
from anycarrier_twilio_front import document
from anycarrier_twilio_front.callbacks import BotError
from anycarrier_twilio_front.calls import Detection, FrontCall
from anycarrier_twilio_front.rest_errors import refusal

if TYPE_CHECKING:
    from anycarrier_twilio_front.front import TwilioFront

log = logging.getLogger("anycarrier.twilio_front")

MAX_BODY = 64 * 1024
LONGEST_TWIML = 4000
"""Characters of ``Twiml``. https://www.twilio.com/docs/voice/api/call-resource#create-a-call-resource"""

DETECTION = {"Enable": MachineDetection.DETECT, "DetectMessageEnd": MachineDetection.WAIT_FOR_BEEP}
NOT_HERE = "Record SipAuthUsername SipAuthPassword Byoc ClientNotificationUrl Passports CallToken".split()
"""Parameters that ask for what a front has no way to do. Others that it does not know are ignored, as Twilio does."""


class CallsApi:
    """The routes of one front."""

    def __init__(self, front: TwilioFront) -> None:
        self._front = front

    def routes(self) -> list[Route]:
        """For the app that serves the exchange. Whatever else is asked for under Twilio's path is not found."""
        base = f"/{API_VERSION}/Accounts/{{account}}/Calls"
        verbs: dict[str, dict[str, _Verb]] = {
            f"{base}.json": {"POST": self._create, "GET": self._list},
            f"{base}/{{sid}}.json": {"POST": self._update, "GET": self._fetch},
            f"/{API_VERSION}/{{path:path}}": {},
        }
        account = self._front.account_sid
        return [_AccountRoute(account, path, self._answered(found)) for path, found in verbs.items()]

    # --- requests -----------------------------------------------------------------------------------------------------

    def _answered(self, verbs: Mapping[str, _Verb]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                return await self._handle(request, verbs)
            except RestError as problem:
                refused = problem
            except StoreUnavailable as problem:
                refused = refusal(problem, "", "")
            return JSONResponse(refused.body, refused.status, refused.headers)

        return endpoint

    async def _handle(self, request: Request, verbs: Mapping[str, _Verb]) -> Response:
        self._log_in(request)
        if request.path_params.get("account") != self._front.account_sid or not verbs:
            raise _not_found(request)
        if (verb := verbs.get(request.method)) is None:
            raise RestError(405, 20004, "Method not allowed")
        try:
            form = request.url.query if request.method == "GET" else (await _body(request)).decode()
            params = parse_qs(form, keep_blank_values=True, max_num_fields=200)
        except ValueError:
            raise RestError(400, 20001, "The body is not a form") from None
        return await verb(request, Parameters(params))

    def _log_in(self, request: Request) -> None:
        user, secret = read_login(request.headers.get("authorization", ""))
        logins = {self._front.account_sid: self._front.auth_token, **self._front.api_keys}
        # All are compared, whatever the first says, and each in constant time.
        fits = [
            hmac.compare_digest(user.encode(), name.encode()) & hmac.compare_digest(secret.encode(), key.encode())
            for name, key in logins.items()
        ]
        if not secret or not any(fits):
            raise RestError(401, 20003, "Authenticate", detail="Your AccountSid or AuthToken was incorrect.")

    def _call(self, request: Request) -> FrontCall:
        call = self._front.call(request.path_params["sid"])
        if call is None:
            raise _not_found(request)
        return call

    # --- the resource -------------------------------------------------------------------------------------------------

    async def _create(self, request: Request, params: Parameters) -> Response:
        to, from_ = params.get("To"), params.get("From")
        if not to:
            raise RestError(400, 21201, "No 'To' number is specified")
        if not from_:
            raise RestError(400, 21213, "No 'From' number is specified")
        if "ApplicationSid" in params.params:
            raise RestError(400, 21218, "ApplicationSid is not valid: this account has no applications")
        for name in NOT_HERE:
            if params.get(name).lower() not in ("", "false"):
                raise RestError(400, 20001, f"{name} is not supported by this account")
        asked = read_options(params, CallOptions)
        if asked.instructions is None:
            raise RestError(400, 21205, "Url parameter is required.")
        self._check(params)
        line = await self._line(from_)
        options: dict[str, Any] = {"timeout": float(asked.timeout)}
        if caller_id := params.get("CallerId"):
            options["caller_id"] = (await self._line(caller_id)).number
        if params.get("TimeLimit"):
            options["time_limit"] = float(asked.time_limit)
        if asked.send_digits:
            options["digits"] = asked.send_digits
        elif asked.detection:  # Twilio ignores it together with digits
            options["machine_detection"] = DETECTION[asked.detection]
        reference = uuid.uuid4().hex
        call = Call(
            id="", provider=line.provider, direction=Direction.OUTBOUND, from_=line.number, to=to,
            status=CallStatus.QUEUED, reference=reference, credential_id=line.credential_id, agent_id=line.agent_id,
            created_at=datetime.now(UTC),
        )  # fmt: skip
        opened = self._front.enter(call, asked.instructions, asked.status_callback)
        opened.unplaced = []  # nothing is told of a call that the carrier then refuses
        if "machine_detection" in options:
            opened.detection = Detection(
                callback=asked.detection_callback if asked.detection_async else None,
                awaited=not asked.detection_async,
                to_the_end=asked.detection == "DetectMessageEnd",
            )
        try:
            await self._front.exchange.dial(from_=line.number, to=to, reference=reference, **options)
        except Exception as problem:
            if not await self._may_ring(reference):
                self._front.forget(opened)
            ours = isinstance(problem, (AnycarrierError, StoreUnavailable))
            log.warning(
                "a call that the bot of agent %s asked for was not made: %s",
                self._front.agent_id, problem, exc_info=None if ours else problem,
            )  # fmt: skip
            raise refusal(problem, mask_number(to), mask_number(from_)) from None
        finally:
            self._front.place(opened)
        return JSONResponse(self._resource(opened), 201)

    async def _may_ring(self, reference: str) -> bool:
        """Whether a call that could not be dialled is there all the same: in the call book, and not over."""
        try:
            call = await self._front.exchange.switchboard.calls.get(reference)
        except StoreUnavailable:
            return True
        return call is not None and not call.ended

    async def _fetch(self, request: Request, params: Parameters) -> Response:
        return JSONResponse(self._resource(self._call(request)))

    async def _update(self, request: Request, params: Parameters) -> Response:
        call, status = self._call(request), params.get("Status")
        if status not in ("", "completed", "canceled"):
            raise RestError(400, 20001, f"Status {status[:40]!r} is not valid: completed or canceled")
        if "TimeLimit" in params.params:
            raise RestError(400, 20001, "TimeLimit is not supported for a call in progress")
        instructions, callback = read_instructions(params), read_callback(params, "StatusCallback")
        self._check(params)
        over = RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
        if call.call.ended:
            raise over
        if callback is not None:
            call.callback = callback
        if status:
            if status == "completed" or call.status != "in-progress":  # "canceled" leaves an answered call alone
                await self._hang_up(call)
        elif instructions is not None:
            if call.status != "in-progress" or call.call.handed_on or not self._runs_here(call):
                raise over
            call.redirect(instructions)
        return JSONResponse(self._resource(call))

    async def _hang_up(self, call: FrontCall) -> None:
        exchange = self._front.exchange
        try:
            await exchange.hang_up(call.call.reference, EndReason.API_STOP)
            with contextlib.suppress(TimeoutError):  # most carriers tell at once; the bot need not wait for the others
                await exchange.wait_for(call.call.reference, timeout=1.0)
        except (AnycarrierError, StoreUnavailable) as problem:
            log.warning("a call of the bot of agent %s is not hung up yet: %s", self._front.agent_id, problem)

    async def _list(self, request: Request, params: Parameters) -> Response:
        def fits(call: FrontCall) -> bool:
            texts = {"To": call.call.to, "From": call.call.from_, "Status": call.status, "ParentCallSid": ""}
            return all(params.get(name) in ("", value) for name, value in texts.items()) and all(
                params.on_day(name, when)
                for name, when in (("StartTime", call.call.answered_at), ("EndTime", call.call.ended_at))
            )

        found = [call for call in reversed(self._front.calls) if fits(call)]
        return JSONResponse(page(params, request.url.path, "calls", found, self._resource))

    def _resource(self, opened: FrontCall) -> dict[str, Any]:
        """The call as Twilio's API shows it. The price is the carrier's, where it tells one."""
        call = opened.call
        ends = {"to": call.to, "to_formatted": call.to, "from": call.from_, "from_formatted": call.from_}
        return call_resource(
            self._front.account_sid,
            opened.sid,
            created=call.created_at,
            updated=call.ended_at or call.answered_at or call.created_at,
            answered=call.answered_at,
            ended=call.ended_at,
            status="queued" if opened.status == "initiated" else opened.status,  # Twilio's API has no "initiated"
            duration=str(round(call.duration)) if call.ended else None,
            price=f"-{call.price.amount}" if call.price else None,
            price_unit=call.price.currency if call.price else "USD",
            direction=opened.direction,
            answered_by=(opened.detection and opened.detection.answered_by) or None,
            subresource_uris={},
            **ends,
        )

    # --- parameters ---------------------------------------------------------------------------------------------------

    def _check(self, params: Parameters) -> None:
        """Refuse URLs that may not be asked, and TwiML that cannot be run: now, not when somebody has picked up."""
        for name in ("Url", "FallbackUrl", "StatusCallback", "AsyncAmdStatusCallback"):
            if url := params.get(name):
                try:
                    if not url.lower().startswith(("http://", "https://")):
                        raise BotError(21205, "it does not begin with http:// or https://")
                    self._front.hosts.check(url)
                except BotError as wrong:
                    raise RestError(400, 21205, f"{name} is not valid: {redact(wrong.message)}") from None
        if twiml := params.get("Twiml"):
            if len(twiml) > LONGEST_TWIML:
                raise RestError(400, 20001, f"Twiml is longer than {LONGEST_TWIML} characters")
            try:
                document.read(self._front, twiml)
            except BotError as wrong:
                raise RestError(400, wrong.code, wrong.message) from None

    async def _line(self, number: str) -> Line:
        """The line of a number that the bot may call from: one of its own agent's."""
        shown = mask_number(number)
        try:
            line = await self._front.exchange.switchboard.registry.lookup(e164(number))
        except InvalidNumber:
            why = f"The 'From' number {shown} is not a valid phone number, shortcode, or SIP address."
            raise RestError(400, 21212, why) from None
        except NumberNotAssigned as problem:
            raise refusal(problem, "", shown) from None
        if line.agent_id != self._front.agent_id:  # whose it is is no bot's business
            raise refusal(NumberNotAssigned(number), "", shown)
        return line

    def _runs_here(self, call: FrontCall) -> bool:
        session = self._front.exchange.switchboard.sessions.get(call.call.reference)
        return session is not None and not session.ended


class _AccountRoute(Route):
    """A route that leaves other accounts to the fronts whose routes come later, and refuses those of none."""

    def __init__(self, account_sid: str, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        super().__init__(path, endpoint, methods=_METHODS)
        self._account_sid = account_sid

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        params = child.get("path_params", {})
        accounts, _, rest = params.get("path", "").partition("/")
        account = params.get("account") or (rest.partition("/")[0] if accounts == "Accounts" else "")
        another = match is Match.FULL and account not in ("", self._account_sid)
        return (Match.PARTIAL if another else match), child


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise RestError(413, 20413, "Request Entity Too Large")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != "application/x-www-form-urlencoded":
        raise RestError(415, 20415, "Content-Type must be application/x-www-form-urlencoded")
    return body


_Verb = Callable[[Request, Parameters], Awaitable[Response]]
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def _not_found(request: Request) -> RestError:
    return RestError(404, 20404, f"The requested resource {redact(request.url.path)} was not found")
