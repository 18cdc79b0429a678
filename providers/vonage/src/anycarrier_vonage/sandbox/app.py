"""Vonage's HTTP side: calls by token, numbers and applications by key and secret, each with errors of its own shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anycarrier.credentials import Credential
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Delivery, RestRequest, Sandbox
from anycarrier.testing.sandbox_numbers import Login, Outcome, login_of, outcome_of
from anycarrier_vonage.credential import VonageCredential, load_key
from anycarrier_vonage.sandbox import account_api
from anycarrier_vonage.sandbox.accounts import (
    API_KEY,
    API_SECRET,
    APPLICATION,
    SIGNATURE_SECRET,
    Account,
    Accounts,
    Application,
    Refused,
    check,
    hashed_part,
    invalid,
    pem_of,
    private_key,
    problem,
    webhook_token,
)
from anycarrier_vonage.sandbox.legs import OVER, Leg, now, shown
from anycarrier_vonage.sandbox.ncco import NUMBER, faults

REGION = "us-3"
"""Where calls come in. Its host is a path of the sandbox; calls that we place live at the API's own."""

DIAL = {
    "to", "from", "random_from_number", "ncco", "answer_url", "answer_method", "event_url", "event_method",
    "machine_detection", "advanced_machine_detection", "length_timer", "ringing_timer",
}  # fmt: skip
REFUSED = {
    Outcome.INVALID_NUMBER: (400, "Bad Request", "to: this number cannot exist"),
    Outcome.FORBIDDEN: (403, "Forbidden", "Your account does not have permission to call this destination."),
    Outcome.NO_FUNDS: (402, "Low balance", "Your account balance is too low."),
    Outcome.THROTTLED: (429, "Rate Limit Hit", "Please wait, then retry your request"),
    Outcome.SERVER_ERROR: (500, "Internal Error", "Something went wrong"),
}

Handler = Callable[[Request, Application, Mapping[str, Any]], Awaitable[Response]]


class VonageSandbox(Sandbox):
    """Accounts are told apart by their key, applications by their id."""

    provider: ClassVar[str] = "vonage"

    def __init__(self, *, base_url: str, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(base_url=base_url, http=http)
        self.accounts = Accounts()
        self.legs: dict[str, Leg] = {}
        self.files: dict[str, tuple[str, bytes]] = {}
        calls = [
            ("", self.dial, "POST"),
            ("", self.list_calls, "GET"),
            ("/{uuid}", self.fetch, "GET"),
            ("/{uuid}", self.change, "PUT"),
            ("/{uuid}/dtmf", self.dtmf, "PUT"),
        ]
        hosts = ("", f"/{REGION}")
        routes = [Route(f"{host}/v1/calls{path}", self.by_token(handler), methods=[method])
                  for host in hosts for path, handler, method in calls]  # fmt: skip
        routes += [Route(f"{host}/v1/files/{{id}}", self.by_token(self.file)) for host in hosts]
        routes += account_api.routes(self)
        routes.append(Route("/{rest:path}", self.not_here, methods=["GET", "POST", "PUT", "DELETE"]))
        self.app = Starlette(routes=routes)

    # --- the account ----------------------------------------------------------------------------------------------

    def credential(self, **overrides: Any) -> Credential:
        fields = {
            "api_key": API_KEY,
            "api_secret": API_SECRET,
            "application_id": APPLICATION,
            "private_key": pem_of(private_key()),
            "signature_secret": SIGNATURE_SECRET,
            "base_url": self.base_url,
        }
        for login in (login_of(str(overrides.get(name, "-"))) for name in ("api_key", "api_secret")):
            if login is not Login.GOOD:  # tokens hold no secret that could say so: an application does
                fields["application_id"] = self.application_with(login)
        return VonageCredential.model_validate({**fields, **overrides})

    def application_with(self, login: Login) -> str:
        id = f"{APPLICATION[:-1]}{list(Login).index(login)}"
        key = private_key("another").public_key() if login is Login.WRONG else private_key().public_key()
        account = Account(API_KEY, login=login)
        self.accounts.applications[id] = Application(id, account, key)
        return id

    def lead_here(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {**fields, "base_url": self.base_url, "region": None}

    def open_account(self, credential: Credential) -> None:
        self.account_of(credential)

    def account_of(self, credential: Credential) -> Account:
        assert isinstance(credential, VonageCredential)
        public: RSAPublicKey = load_key(credential.private_key).public_key()
        secret = credential.signature_secret.get_secret_value()
        return self.accounts.add(credential.api_key.get_secret_value(), credential.application_id, public, secret)

    def add_number(self, number: str) -> None:
        self.inventory.sell(number)
        self.accounts.by_key[API_KEY].own(number)

    def give_number(self, number: str, credential: Credential) -> None:
        self.inventory.sell(number)
        self.account_of(credential).own(number)

    def clock(self) -> str:
        return now()

    def delivery(
        self, application: Application, kind: str, call_id: str, method: str, url: str, said: Mapping[str, Any]
    ) -> Delivery:
        """A webhook, signed as the application's settings say, and not yet sent."""
        if method == "GET":
            query = httpx.QueryParams({name: as_text(value) for name, value in said.items() if value is not None})
            delivery = Delivery(kind, call_id, "GET", f"{url}{'&' if '?' in url else '?'}{query}", params=dict(said))
        else:
            body = json.dumps(said, separators=(",", ":")).encode()
            headers = {"content-type": "application/json"}
            delivery = Delivery(kind, call_id, "POST", url, headers=headers, body=body, params=dict(said))
        return self.signed(delivery, application)

    def signed(self, delivery: Delivery, application: Application) -> Delivery:
        headers = {name: value for name, value in delivery.headers.items() if name != "authorization"}
        if application.voice.get("signed_callbacks", True):
            hashed = hashed_part(delivery.method, delivery.url, delivery.body)
            headers["authorization"] = webhook_token(application.account, application.id, hashed)
        return delivery.again(headers=headers)

    def sign(self, delivery: Delivery) -> Delivery:
        leg = self.legs.get(delivery.call_id)
        return self.signed(delivery, leg.application if leg else self.accounts.applications[APPLICATION])

    # --- incoming calls -------------------------------------------------------------------------------------------

    async def ring(self, to: str, from_: str, *, said: bytes = b"") -> FarEnd:
        """Without a link to an application with an answer URL, Vonage calls nobody and the caller hears busy."""
        msisdn = to.lstrip("+")
        account = next((one for one in self.accounts.by_key.values() if msisdn in one.numbers), None)
        if account is None:
            raise LookupError("nobody's number: add_number() gives it to the account")
        application = account.application_of(msisdn)
        if application is None or not application.webhook("answer_url").get("address"):
            raise LookupError("the number is not linked to an application with an answer_url: configure it first")
        leg = self.enter(Leg(self, application, "inbound", from_.lstrip("+"), msisdn, asked={}, region=REGION))
        self.start(leg.arrive())
        if said:
            self.start(leg.far_end.say(said))
        return leg.far_end

    def enter(self, leg: Leg) -> Leg:
        self.legs[leg.uuid] = leg
        self.connect(leg.far_end)
        return leg

    # --- REST -----------------------------------------------------------------------------------------------------

    def answering(self, handler: Callable[[Request, RestRequest], Awaitable[Response]]) -> Any:
        """Around every operation: the log, and refusals in the API's own shape."""

        async def answer(request: Request) -> Response:
            log = RestRequest(request.method, request.url.path, dict(request.query_params))
            self.requests.append(log)
            try:
                response = await handler(request, log)
            except Refused as refused:
                response = JSONResponse(refused.body, refused.status)
            log.status = response.status_code
            return response

        return answer

    def by_token(self, handler: Handler) -> Any:
        async def answer(request: Request, log: RestRequest) -> Response:
            application = self.accounts.application(request.headers.get("authorization", ""))
            if request.method in ("POST", "PUT"):
                try:
                    log.body = json.loads(await request.body())
                except ValueError:
                    raise invalid(body="not JSON") from None
                if not isinstance(log.body, dict):
                    raise invalid(body="must be an object")
            return await handler(request, application, log.body or {})

        return self.answering(answer)

    def by_secret(self, handler: Callable[[Request, Account, RestRequest], Awaitable[Response]]) -> Any:
        async def answer(request: Request, log: RestRequest) -> Response:
            account = self.accounts.logged_in(request.headers.get("authorization", ""))
            return await handler(request, account, log)

        return self.answering(answer)

    async def not_here(self, request: Request) -> Response:
        refused = problem(404, "Not Found", "not simulated by this sandbox")
        self.requests.append(RestRequest(request.method, request.url.path, dict(request.query_params), status=404))
        return JSONResponse(refused.body, 404)

    async def dial(self, request: Request, application: Application, asked: Mapping[str, Any]) -> Response:
        self.check_dial(asked)
        to = asked["to"][0]["number"]
        outcome = outcome_of(shown(to))
        if outcome is Outcome.INVALID_NUMBER:
            raise invalid(to="this number cannot exist")
        if outcome in REFUSED:
            raise problem(*REFUSED[outcome])
        if outcome is Outcome.TIMEOUT:
            await asyncio.Event().wait()
        from_ = asked["from"]["number"]
        verified = from_ if from_ in application.account.numbers else "unknown"
        leg = self.enter(Leg(self, application, "outbound", from_, to, asked=asked, region=region_of(request)))
        leg.far_end.from_ = shown(verified)
        self.start(leg.dialled())
        placed = {"uuid": leg.uuid, "status": "started", "direction": "outbound"}
        return JSONResponse({**placed, "conversation_uuid": leg.conversation}, 201)

    def check_dial(self, asked: Mapping[str, Any]) -> None:
        wrong = {name: "not known" for name in asked if name not in DIAL}
        if not phones(asked.get("to")):
            wrong["to"] = "must be one phone with a number in digits; other endpoints are not simulated by this sandbox"
        if not phones([asked.get("from")]):
            wrong["from_"] = "must be a phone with a number in digits; random_from_number is not simulated"
        if "answer_url" in asked:
            wrong["answer_url"] = "not simulated by this sandbox: give an ncco"
        elif found := faults(asked.get("ncco")) or ([] if asked["ncco"] else ["an empty NCCO"]):
            wrong["ncco"] = "; ".join(found)
        for name, most in (("length_timer", 86400), ("ringing_timer", 120)):
            if name in asked and not (isinstance(asked[name], int) and 1 <= asked[name] <= most):
                wrong[name] = f"must be from 1 to {most}"
        if asked.get("machine_detection", "continue") not in ("continue", "hangup"):
            wrong["machine_detection"] = "must be continue or hangup"
        if not isinstance(asked.get("advanced_machine_detection", {}), dict):
            wrong["advanced_machine_detection"] = "must be an object"
        if wrong:
            raise invalid(**wrong)

    def leg(self, request: Request, application: Application) -> Leg:
        leg = self.legs.get(request.path_params["uuid"])
        if leg is None or leg.application is not application or leg.region != region_of(request):
            raise problem(404, "Not Found", "Call does not exist, or you do not have access")
        return leg

    async def list_calls(self, request: Request, application: Application, asked: Mapping[str, Any]) -> Response:
        size = int(request.query_params.get("page_size", 10))
        found = [leg.told() for leg in self.legs.values() if leg.application is application]
        calls = {"count": len(found), "page_size": size, "record_index": 0, "_embedded": {"calls": found[:size]}}
        return JSONResponse({**calls, "_links": {"self": {"href": "/calls"}}})

    async def fetch(self, request: Request, application: Application, asked: Mapping[str, Any]) -> Response:
        return JSONResponse(self.leg(request, application).told())

    async def change(self, request: Request, application: Application, asked: Mapping[str, Any]) -> Response:
        leg = self.leg(request, application)
        if leg.status in OVER:
            raise problem(404, "Not Found", "Call does not exist, or you do not have access")
        match asked:
            case {"action": "hangup"}:
                leg.hang_up()
            case {"action": "transfer", "destination": {"type": "ncco", "ncco": ncco}}:
                if found := faults(ncco) or ([] if leg.answered_at else ["the call is not answered"]):
                    raise invalid(ncco="; ".join(found))
                leg.transfer(ncco)
            case _:
                raise invalid(action="not simulated by this sandbox")
        return Response(status_code=204)

    async def dtmf(self, request: Request, application: Application, asked: Mapping[str, Any]) -> Response:
        leg, digits = self.leg(request, application), str(asked.get("digits", ""))
        if leg.status in OVER:
            raise problem(404, "Not Found", "Call does not exist, or you do not have access")
        if not digits or set(digits) - set("0123456789*#p"):
            raise invalid(digits="must be 0-9, *, # and p")
        leg.far_end.digits += digits.replace("p", "")
        return JSONResponse({"message": "DTMF sent", "uuid": leg.uuid})

    async def file(self, request: Request, application: Application, asked: Mapping[str, Any]) -> Response:
        owner, wav = self.files.get(request.path_params["id"], ("", b""))
        if owner != application.id:
            raise problem(404, "Not Found", "File does not exist, or you do not have access")
        return Response(wav, media_type="audio/wav")


def phones(parties: Any) -> bool:
    if not isinstance(parties, list) or len(parties) != 1 or not isinstance(parties[0], dict):
        return False
    party = parties[0]
    return party.get("type") == "phone" and bool(NUMBER.fullmatch(str(party.get("number"))))


def region_of(request: Request) -> str:
    return REGION if request.url.path.startswith(f"/{REGION}/") else ""


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


__all__ = ["VonageSandbox", "check"]
