"""Twilio's calls API for one bot: dial, read, list, change. Errors have Twilio's shape and codes, numbers masked.

https://www.twilio.com/docs/voice/api/call-resource, https://www.twilio.com/docs/api/errors
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from anycarrier import Call, CallStatus, Direction, EndReason, MachineDetection
from anycarrier.errors import AnycarrierError, InvalidNumber, NumberNotAssigned, StoreUnavailable
from anycarrier.numbers import e164
from anycarrier.redaction import mask_number, redact
from anycarrier.routing import Line
from anycarrier_twilio.messages import API_VERSION, rfc2822
from anycarrier_twilio_front import document
from anycarrier_twilio_front.callbacks import BotError
from anycarrier_twilio_front.calls import EVENTS, Detection, FrontCall, Instructions, StatusCallback
from anycarrier_twilio_front.rest_errors import RestError, refusal

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
            except RestError as refused:
                return JSONResponse(refused.body, refused.status, refused.headers)

        return endpoint

    async def _handle(self, request: Request, verbs: Mapping[str, _Verb]) -> Response:
        self._log_in(request)
        if request.path_params.get("account") != self._front.account_sid or not verbs:
            raise _not_found(request)
        if (verb := verbs.get(request.method)) is None:
            raise RestError(405, 20004, "Method not allowed")
        if request.method == "GET":
            pairs = request.query_params.multi_items()
        else:
            body = b""
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise RestError(413, 20413, "Request Entity Too Large")
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if body and kind != "application/x-www-form-urlencoded":
                raise RestError(415, 20415, "Content-Type must be application/x-www-form-urlencoded")
            try:
                pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=200)
            except ValueError:
                raise RestError(400, 20001, "The body is not a form") from None
        params: dict[str, list[str]] = {}
        for name, value in pairs:
            params.setdefault(name, []).append(value)
        return await verb(request, _Params(params))

    def _log_in(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            user, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:  # no base64, no ASCII, no UTF-8
            scheme = user = secret = ""
        logins = {self._front.account_sid: self._front.auth_token, **self._front.api_keys}
        # All are compared, whatever the first says, and each in constant time.
        fits = [
            hmac.compare_digest(user.encode(), name.encode()) & hmac.compare_digest(secret.encode(), key.encode())
            for name, key in logins.items()
        ]
        if scheme.lower() != "basic" or not any(fits):
            raise RestError(401, 20003, "Authenticate", detail="Your AccountSid or AuthToken was incorrect.")

    def _call(self, request: Request) -> FrontCall:
        call = self._front.call(request.path_params["sid"])
        if call is None:
            raise _not_found(request)
        return call

    # --- the resource -------------------------------------------------------------------------------------------------

    async def _create(self, request: Request, params: _Params) -> Response:
        to, from_ = params.get("To"), params.get("From")
        if not to:
            raise RestError(400, 21201, "No 'To' number is specified")
        if not from_:
            raise RestError(400, 21213, "No 'From' number is specified")
        if "ApplicationSid" in params.values:
            raise RestError(400, 21218, "ApplicationSid is not valid: this account has no applications")
        for name in NOT_HERE:
            if params.get(name).lower() not in ("", "false"):
                raise RestError(400, 20001, f"{name} is not supported by this account")
        instructions = self._instructions(params)
        if instructions is None:
            raise RestError(400, 21205, "Url parameter is required.")
        shown = {"to": mask_number(to), "from_": mask_number(from_)}
        try:
            to = e164(to)
        except InvalidNumber as problem:
            raise refusal(problem, **shown) from None
        line = await self._line(from_)
        caller_id = params.get("CallerId")
        options: dict[str, Any] = {"caller_id": (await self._line(caller_id)).number} if caller_id else {}
        options |= self._options(params)
        detection = self._detection(params) if "machine_detection" in options else None
        callback = self._status_callback(params)
        reference = uuid.uuid4().hex
        call = Call(
            id="", provider=line.provider, direction=Direction.OUTBOUND, from_=line.number, to=to,
            status=CallStatus.QUEUED, reference=reference, credential_id=line.credential_id, agent_id=line.agent_id,
            created_at=datetime.now(UTC),
        )  # fmt: skip
        opened = self._front.enter(call, instructions, callback)
        opened.unplaced = []  # nothing is told of a call that the carrier then refuses
        opened.detection = detection
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
            raise refusal(problem, **shown) from None
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

    async def _fetch(self, request: Request, params: _Params) -> Response:
        return JSONResponse(self._resource(self._call(request)))

    async def _update(self, request: Request, params: _Params) -> Response:
        call, status = self._call(request), params.get("Status")
        if status not in ("", "completed", "canceled"):
            raise RestError(400, 20001, f"Status {status[:40]!r} is not valid: completed or canceled")
        if "TimeLimit" in params.values:
            raise RestError(400, 20001, "TimeLimit is not supported for a call in progress")
        instructions, callback = self._instructions(params), self._status_callback(params)
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

    async def _list(self, request: Request, params: _Params) -> Response:
        def fits(call: FrontCall) -> bool:
            texts = {"To": call.call.to, "From": call.call.from_, "Status": call.status, "ParentCallSid": ""}
            return all(params.get(name) in ("", value) for name, value in texts.items()) and all(
                params.on_day(name, when)
                for name, when in (("StartTime", call.call.answered_at), ("EndTime", call.call.ended_at))
            )

        size, page = params.number("PageSize", 50), params.number("Page", 0)
        if not 0 < size <= 1000:
            raise RestError(400, 20007, "Page size must be between 1 and 1000")
        found = [call for call in reversed(self._front.calls) if fits(call)]
        shown = found[size * page : size * (page + 1)]

        def link(number: int) -> str:
            kept = [(name, value) for name, value in request.query_params.multi_items() if name not in _PAGING]
            return f"{request.url.path}?{urlencode([*kept, ('PageSize', size), ('Page', number)])}"

        body = {
            "calls": [self._resource(call) for call in shown],
            "end": size * page + max(0, len(shown) - 1),
            "first_page_uri": link(0),
            "next_page_uri": link(page + 1) if size * (page + 1) < len(found) else None,
            "page": page,
            "page_size": size,
            "previous_page_uri": link(page - 1) if page else None,
            "start": size * page,
            "uri": link(page),
        }
        return JSONResponse(body)

    def _resource(self, opened: FrontCall) -> dict[str, Any]:
        """The call as Twilio's API shows it. The price is the carrier's, where it tells one."""
        call = opened.call
        path = f"/{API_VERSION}/Accounts/{self._front.account_sid}/Calls/{opened.sid}"
        return {
            "sid": opened.sid,
            "date_created": rfc2822(call.created_at),
            "date_updated": rfc2822(call.ended_at or call.answered_at or call.created_at),
            "parent_call_sid": None,
            "account_sid": self._front.account_sid,
            "to": call.to,
            "to_formatted": call.to,
            "from": call.from_,
            "from_formatted": call.from_,
            "phone_number_sid": None,
            "status": "queued" if opened.status == "initiated" else opened.status,  # Twilio's API has no "initiated"
            "start_time": rfc2822(call.answered_at),
            "end_time": rfc2822(call.ended_at),
            "duration": str(round(call.duration)) if call.ended else None,
            "price": f"-{call.price.amount}" if call.price else None,
            "price_unit": call.price.currency if call.price else "USD",
            "direction": opened.direction,
            "answered_by": (opened.detection and opened.detection.answered_by) or None,
            "api_version": API_VERSION,
            "forwarded_from": None,
            "group_sid": None,
            "caller_name": None,
            "queue_time": "0",
            "trunk_sid": None,
            "uri": f"{path}.json",
            "subresource_uris": {},
        }

    # --- parameters ---------------------------------------------------------------------------------------------------

    def _instructions(self, params: _Params) -> Instructions | None:
        """What is to be run; ``Twiml`` wins over ``Url``."""
        fallback = self._url(params, "FallbackUrl")
        after = Instructions(fallback, params.method("FallbackMethod")) if fallback else None
        if twiml := params.get("Twiml"):
            if len(twiml) > LONGEST_TWIML:
                raise RestError(400, 20001, f"Twiml is longer than {LONGEST_TWIML} characters")
            try:
                document.read(self._front, twiml)  # now, not when somebody has picked up
            except BotError as wrong:
                raise RestError(400, wrong.code, redact(wrong.message)) from None
            return Instructions(twiml=twiml, fallback=after)
        if url := self._url(params, "Url"):
            return Instructions(url, params.method("Method"), fallback=after)
        return None

    def _status_callback(self, params: _Params) -> StatusCallback | None:
        if not (url := self._url(params, "StatusCallback")):
            return None
        events = {word for value in params.values.get("StatusCallbackEvent", []) for word in value.split()}
        if unknown := sorted(events - EVENTS):
            raise RestError(400, 21626, f"Invalid StatusCallbackEvent(s): {', '.join(unknown)[:100]}")
        return StatusCallback(url, params.method("StatusCallbackMethod"), frozenset(events or {"completed"}))

    def _options(self, params: _Params) -> dict[str, Any]:
        """Arguments of :meth:`anycarrier.Exchange.dial`."""
        timeout, limit = params.number("Timeout", 60), params.number("TimeLimit", 14400)
        if not 0 < timeout <= 600 or not 0 < limit <= 86400:
            raise RestError(400, 20001, "Timeout must be within 1 and 600 seconds, TimeLimit within 1 and 86400")
        options: dict[str, Any] = {"timeout": float(timeout)}
        if "TimeLimit" in params.values:
            options["time_limit"] = float(limit)
        if digits := params.get("SendDigits"):
            if not re.fullmatch(r"[0-9A-Da-d#*wW]{1,32}", digits):
                raise RestError(400, 20001, "SendDigits is not valid: 1 to 32 of 0-9 A-D # * w W")
            options["digits"] = digits
        detection = params.get("MachineDetection")
        if detection and not digits:  # Twilio ignores the detection of a call with digits
            if detection not in DETECTION:
                raise RestError(400, 20001, f"MachineDetection {detection[:40]!r} is not valid")
            options["machine_detection"] = DETECTION[detection]
        return options

    def _detection(self, params: _Params) -> Detection:
        """Where ``AsyncAmd`` is true the call goes on meanwhile, and the callback is told; else its document waits."""
        url = self._url(params, "AsyncAmdStatusCallback") if params.get("AsyncAmd").lower() == "true" else ""
        callback = StatusCallback(url, params.method("AsyncAmdStatusCallbackMethod")) if url else None
        detection = Detection(callback, to_the_end=params.get("MachineDetection") == "DetectMessageEnd")
        if params.get("AsyncAmd").lower() == "true" and callback is None:
            detection.known.set()  # nobody is told, and nothing waits: the resource says it
        return detection

    def _url(self, params: _Params, name: str) -> str:
        if url := params.get(name):
            try:
                if not url.lower().startswith(("http://", "https://")):
                    raise BotError(21205, "it does not begin with http:// or https://")
                self._front.hosts.check(url, 21205)
            except BotError as wrong:
                raise RestError(400, 21205, f"{name} is not valid: {redact(wrong.message)}") from None
        return url

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


class _Params:
    """A request's parameters by name."""

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self.values = values

    def get(self, name: str) -> str:
        """The last value, "" for none."""
        return self.values.get(name, [""])[-1].strip()

    def number(self, name: str, otherwise: int) -> int:
        text = self.get(name)
        if text and not re.fullmatch(r"[0-9]{1,9}", text):
            raise RestError(400, 20001, f"{name} is not valid: {text[:40]!r} is no number")
        return int(text) if text else otherwise

    def method(self, name: str) -> str:
        word = self.get(name).upper() or "POST"
        if word not in ("GET", "POST"):
            raise RestError(400, 20001, f"{name} must be GET or POST")
        return word

    def on_day(self, name: str, when: datetime | None) -> bool:
        """Whether ``when`` is on the day that ``name``, ``name<`` and ``name>`` ask for."""
        day = when.astimezone(UTC).date().isoformat() if when else ""
        holds: dict[str, Callable[[str, str], bool]] = {"": str.__eq__, "<": str.__le__, ">": str.__ge__}
        asked = {sign: self.get(name + sign)[:10] for sign in holds}
        return all(not limit or (day != "" and holds[sign](day, limit)) for sign, limit in asked.items())


_Verb = Callable[[Request, _Params], Awaitable[Response]]
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_PAGING = ("PageSize", "Page", "PageToken")


def _not_found(request: Request) -> RestError:
    return RestError(404, 20404, f"The requested resource {redact(request.url.path)} was not found")
