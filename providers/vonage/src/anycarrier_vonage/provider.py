"""Vonage behind the provider contract: what is asked of it, and of which host."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import httpx

from anycarrier import errors
from anycarrier.calls import Call, DialRequest, EndReason, StreamTarget
from anycarrier.events import CallEvent, IncomingCall
from anycarrier.numbers import AvailableNumber, NumberQuery, OwnedNumber, PendingOrder, SyncResult, country_of, e164
from anycarrier.provider import Provider
from anycarrier.refusals import Meaning
from anycarrier.sip import is_sip
from anycarrier.web_tokens import is_of, signed_token, token_claims
from anycarrier.webhooks import WebhookReply, WebhookRequest
from anycarrier_vonage import commands, numbers, wire
from anycarrier_vonage.credential import VonageCredential, load_key
from anycarrier_vonage.frames import VonageSerializer

LIFETIME, REUSED = 900, 600  # seconds that a token of ours is good for, and is used: signing takes a millisecond
API = "https://api.nexmo.com"
NO_HEADERS = "vonage sends headers to SIP addresses only"
NOT_HELD = "the account does not hold this number"


class VonageProvider(Provider):
    name = "vonage"
    title = "Vonage"
    credential_type = VonageCredential
    credential: VonageCredential
    base_url = API
    reports_transfers = True
    error_words = (
        (r"^\d+ 420 .*(address|dashboard)", Meaning(errors.RequirementsMissing, "Buy it in Vonage's dashboard.")),
        (r"^\d+ 420 ", errors.NumberUnavailable),
        (r"^400 .*; to\b", errors.NumberRejected),
    )
    sandbox = "anycarrier_vonage.sandbox:VonageSandbox"

    def __init__(self, credential: VonageCredential, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(credential, http)
        self.token, self.signed_at = "", 0
        self.home = credential.base_url or credential.region or self.base_url
        self.calls: dict[str, Any] = {"path": f"{self.home}/v1/calls", "root": self.home}

    @property
    def account(self) -> dict[str, Any]:
        login = self.credential.api_key.get_secret_value(), self.credential.api_secret.get_secret_value()
        return {"root": "https://rest.nexmo.com", "auth": login}

    @property
    def application(self) -> dict[str, Any]:
        return {**self.account, "root": API, "path": f"/v2/applications/{self.credential.application_id}"}

    def headers(self) -> Mapping[str, str]:
        now = int(time.time())
        if not 0 <= now - self.signed_at < REUSED:
            claims = {"application_id": self.credential.application_id, "iat": now, "exp": now + LIFETIME}
            key = load_key(self.credential.private_key)
            self.token, self.signed_at = signed_token({**claims, "jti": str(uuid.uuid4())}, key), now
        return {"authorization": f"Bearer {self.token}"}

    def verify(self, request: WebhookRequest) -> None:
        """For POSTs, of which a token covers the body; how it covers the query of a GET is told in two ways."""
        ours = self.credential
        claims = token_claims(request.bearer(), ours.signature_secret.get_secret_value().encode(), now=time.time())
        if claims.get("iss") != "Vonage" or claims.get("api_key") != ours.api_key.get_secret_value():
            raise errors.SignatureInvalid("vonage webhook: the token is of another account or issuer")
        if claims.get("application_id", ours.application_id) != ours.application_id:
            raise errors.SignatureInvalid("vonage webhook: the token is of another application")
        if not is_of(claims.get("payload_hash"), request.body):
            raise errors.SignatureInvalid("vonage webhook: the token is of another body; webhooks must come by POST")

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        return wire.parse(request, self.credential.base_url)

    def serializer(self) -> VonageSerializer:
        return VonageSerializer()

    async def at(self, operation: str, call_id: str, more: str = "") -> dict[str, Any]:
        """A call lives in one region, and the hosts of others do not know it."""
        kept = (await self.facts(call_id)).get("region", "")
        host = kept if wire.trusted(kept, self.credential.base_url) else self.home
        call = self.path_id(operation, call_id)
        return {"path": f"{host}/v1/calls/{call}{more}", "root": host, "operation": operation}

    async def dial(self, request: DialRequest) -> Call:
        self.refuse_fields("dial", request, headers=NO_HEADERS)
        body, facts = commands.dial(request), {"region": self.home, "line": request.from_}
        ours = {"from": request.from_, "to": request.to}
        return await self.ask(
            lambda answer: wire.call_of({**answer, **ours}, request.reference, facts), "POST", operation="dial",
            json=body, extra=request.extra, **self.calls,
        )  # fmt: skip

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        return commands.reply(commands.connect_stream("answer", stream, call.call.to, call.call_id))

    async def reject(self, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        """No instructions: the call ends. Vonage has no word for busy."""
        return commands.reply()

    def leave_ringing(self, call: IncomingCall) -> WebhookReply:
        return commands.reply({"action": "wait", "timeout": commands.RINGS_AT_MOST})  # without any, the call would end

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        return commands.reply(commands.connect_party(to, call.call.caller_id or call.call.to, status_url))

    async def hang_up(self, call_id: str) -> None:
        with self.tolerating(404):
            try:
                await self.request("PUT", **await self.at("hang_up", call_id), json={"action": "hangup"})
            except errors.RequestRejected as refusal:  # 400 was seen for calls that were over
                if refusal.status != 400 or not (await self.fetch_call(call_id)).ended:
                    raise

    async def fetch_call(self, call_id: str) -> Call:
        return await self.ask(wire.call_of, "GET", **await self.at("fetch_call", call_id))

    async def transfer(
        self, call_id: str, to: str, *, caller_id: str | None = None, status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if headers and not is_sip(to):
            raise self.unsupported("transfer", NO_HEADERS)
        line = caller_id or (await self.facts(call_id)).get("line", "")
        destination = {"type": "ncco", "ncco": [commands.connect_party(to, line, status_url, headers)]}
        body = {"action": "transfer", "destination": destination}
        await self.request("PUT", **await self.at("transfer", call_id), json=body)

    async def send_digits(self, call_id: str, digits: str) -> None:
        pressed = commands.keys("send_digits", digits)
        await self.request("PUT", **await self.at("send_digits", call_id, "/dtmf"), json={"digits": pressed})

    async def fetch_recording(self, recording_id: str) -> bytes:
        """``recording_id`` is the file's URL, as the webhook told it; the token goes to Vonage's hosts only."""
        url, operation = recording_id, "fetch_recording"
        if not wire.trusted(url, self.credential.base_url):
            url = f"{self.home}/v1/files/{self.path_id(operation, recording_id)}"
        return self.file(await self.send("GET", url, operation=operation, root=url.partition("/v1/")[0]), operation)

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        operation = "search_numbers"
        self.refuse_fields(operation, query, **dict.fromkeys(("locality", "region"), "vonage searches by digits"))
        if query.area_code and (query.contains or query.country not in ("US", "CA")):
            raise self.unsupported(operation, "vonage takes an area code of the USA or Canada, or digits: not both")
        if query.contains and not query.contains.isdecimal():
            raise self.unsupported(operation, "vonage searches by digits only")
        wanted = [self.word(operation, numbers.FEATURES, feature) for feature in query.features]
        kind = self.word(operation, numbers.TYPES_IN.get(query.country, numbers.TYPES), query.type)
        params, begin, end = numbers.search(query, kind, wanted)
        rows = await self.listed(
            "/number/search", "numbers", operation=operation, params=params, extra=query.extra, **self.account,
            after=lambda body, page: numbers.next_page(body, page, end),
        )  # fmt: skip
        return [numbers.offer(row) for row in rows[begin % params["size"] :][: query.limit]]

    async def buy_number(
        self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None
    ) -> OwnedNumber | PendingOrder:
        form = {"country": country_of(e164(number)), "msisdn": commands.digits(number)}
        if not form["country"]:
            raise self.unsupported("buy_number", "vonage wants the country, which this number does not tell")
        await self.change("buy_number", "/number/buy", form, extra)
        return numbers.owned(form)

    async def release_number(self, number: str) -> None:
        if not (held := await self.held("release_number", number)):
            raise self.not_held("release_number", number)
        await self.change("release_number", "/number/cancel", {name: held[0][name] for name in ("country", "msisdn")})

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        held, ours, url = await self.held("list_numbers", number), self.credential.application_id, None
        if any(numbers.application_of(one) == ours for one in held):
            url = await self.ask(numbers.answer_url, "GET", operation="list_numbers", **self.application)
        return [numbers.owned(one, url if numbers.application_of(one) == ours else None) for one in held]

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        operation, ours = "configure_number", self.credential.application_id
        if not (held := await self.held(operation, number)):
            return SyncResult.failed(NOT_HELD, webhook_url)
        pointed = await self.ask(dict, "GET", operation=operation, **self.application)
        changed = numbers.point(pointed, webhook_url)
        link = ["app_id"] if numbers.application_of(held[0]) != ours else []
        if changed and not dry_run:
            await self.request("PUT", operation=operation, json=pointed, **self.application)
        if link and not dry_run:
            await self.change(operation, "/number/update", numbers.update(held[0], ours))
        return SyncResult.of(changed + link, webhook_url, dry_run=dry_run)

    async def unconfigure_number(self, number: str, *, webhook_url: str) -> SyncResult:
        operation, ours = "unconfigure_number", self.credential.application_id
        if not (held := await self.held(operation, number)):
            return SyncResult.failed(NOT_HELD, webhook_url)
        if numbers.application_of(held[0]) != ours:
            return SyncResult.of((), webhook_url)
        if await self.ask(numbers.answer_url, "GET", operation=operation, **self.application) != webhook_url:
            return SyncResult.of((), webhook_url, note="The application's calls go elsewhere, and stay there.")
        await self.change(operation, "/number/update", numbers.update(held[0], ""))
        if any(numbers.application_of(one) == ours for one in await self.held(operation, number)):
            return SyncResult.failed("Vonage kept the link: unlink the number in the dashboard", webhook_url)
        return SyncResult.of(["app_id"], webhook_url)

    async def check_credential(self) -> str:
        """Both logins: the key and secret of the account, and the application's token."""
        name = await self.ask(lambda body: str(body["name"]), "GET", operation="check_credential", **self.application)
        await self.request("GET", operation="check_credential", params={"page_size": 1}, **self.calls)
        return name

    async def held(self, operation: str, number: str | None) -> list[dict[str, Any]]:
        """Vonage's rows of the account's numbers, or of one: it matches by pattern."""
        digits = commands.digits(number or "")
        first = ({"pattern": digits, "search_pattern": 0} if digits else {}) | {"size": numbers.PAGE, "index": 1}
        rows = await self.listed(
            "/account/numbers", "numbers", operation=operation, params=first, after=numbers.next_page, **self.account
        )
        return [row for row in rows if digits in ("", row.get("msisdn"))]

    async def change(
        self, operation: str, path: str, form: Mapping[str, Any], extra: Mapping[str, Any] | None = None
    ) -> None:
        """A failure may be told in the body of a 200."""
        body = await self.request("POST", path, operation=operation, data=form, extra=extra, **self.account)
        code, words = self.error_detail(body)
        if code != "200":
            raise self.error(operation, 401 if code == "401" else 400, code=code, message=words)
