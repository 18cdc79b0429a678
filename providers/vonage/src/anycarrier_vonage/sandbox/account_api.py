"""Numbers and applications: what the account's key and secret open."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anycarrier.testing.sandbox import RestRequest
from anycarrier_vonage.sandbox.accounts import Account, Refused, for_sale, invalid, problem

if TYPE_CHECKING:
    from anycarrier_vonage.sandbox.app import VonageSandbox

SEARCH = {"country", "type", "pattern", "search_pattern", "features", "size", "index"}
OWNED = {"country", "pattern", "search_pattern", "size", "index", "application_id", "has_application"}
BUY = {"country", "msisdn", "target_api_key"}
UPDATE = {
    *BUY, "app_id", "moHttpUrl", "moSmppSysType", "voiceCallbackType", "voiceCallbackValue", "voiceStatusCallback",
}  # fmt: skip
WEBHOOK = {"address", "http_method", "connection_timeout", "connect_timeout", "socket_timeout"}
SUCCESS = {"error-code": "200", "error-code-label": "success"}


def coded(status: int, code: int, label: str) -> Refused:
    return Refused(status, {"error-code": str(code), "error-code-label": label})


def routes(sandbox: VonageSandbox) -> list[Route]:
    api = AccountApi(sandbox)
    found = [
        ("/number/search", api.search, "GET"),
        ("/number/buy", api.buy, "POST"),
        ("/number/cancel", api.cancel, "POST"),
        ("/number/update", api.update, "POST"),
        ("/account/numbers", api.owned, "GET"),
        ("/account/get-balance", api.balance, "GET"),
        ("/v2/applications", api.applications, "GET"),
        ("/v2/applications/{id}", api.application, "GET"),
        ("/v2/applications/{id}", api.replace, "PUT"),
    ]
    return [Route(path, sandbox.by_secret(handler), methods=[method]) for path, handler, method in found]


class AccountApi:
    def __init__(self, sandbox: VonageSandbox) -> None:
        self.sandbox = sandbox

    async def search(self, request: Request, account: Account, log: RestRequest) -> Response:
        asked = query(request, SEARCH)
        if "country" not in asked:
            raise coded(420, 420, "country is missing")
        found = [for_sale(offer) for type in ("local", "mobile", "toll_free", "national")
                 for offer in self.sandbox.inventory.search(country=asked["country"], type=type)]  # fmt: skip
        wanted = set(filter(None, asked.get("features", "").split(",")))
        kind = asked.get("type")
        if kind not in (None, "landline", "mobile-lvn", "landline-toll-free"):
            raise coded(420, 420, "type is not known")
        found = [one for one in found if wanted <= set(one["features"]) and kind in (None, one["type"])]
        return page(matching(found, asked), asked)

    async def owned(self, request: Request, account: Account, log: RestRequest) -> Response:
        asked = query(request, OWNED)
        found = [one for one in account.numbers.values() if asked.get("country") in (None, one["country"])]
        if "application_id" in asked:
            found = [one for one in found if one.get("app_id") == asked["application_id"]]
        if "has_application" in asked:
            found = [one for one in found if bool(one.get("app_id")) == (asked["has_application"] == "true")]
        return page(matching(found, asked), asked)

    async def buy(self, request: Request, account: Account, log: RestRequest) -> Response:
        number = await form(request, BUY, log)
        offer = self.sandbox.inventory.find(f"+{number['msisdn']}")
        if offer is None or offer.country != number["country"] or not self.sandbox.inventory.sell(offer.number):
            raise coded(420, 420, "method failed")
        sold = for_sale(offer)
        account.own(offer.number, sold["type"], sold["features"])
        return JSONResponse(SUCCESS)

    async def cancel(self, request: Request, account: Account, log: RestRequest) -> Response:
        held = self.held(account, await form(request, BUY, log))
        del account.numbers[held["msisdn"]]
        self.sandbox.inventory.take_back(f"+{held['msisdn']}")
        return JSONResponse(SUCCESS)

    async def update(self, request: Request, account: Account, log: RestRequest) -> Response:
        """What is left out is not kept: the stricter reading of the documents."""
        asked = await form(request, UPDATE, log)
        held = self.held(account, asked)
        if "app_id" in asked and asked["app_id"] not in account.applications:
            raise coded(420, 420, "no such application")
        if asked.get("voiceCallbackType") not in (None, "sip", "tel", "app"):
            raise coded(420, 420, "voiceCallbackType is not known")
        kept = {name: held[name] for name in ("country", "msisdn", "type", "features")}
        held.clear()
        held |= kept | {name: value for name, value in asked.items() if name not in BUY}
        if "app_id" in held:
            held |= {"voiceCallbackType": "app", "voiceCallbackValue": held["app_id"]}
        return JSONResponse(SUCCESS)

    def held(self, account: Account, asked: Mapping[str, str]) -> dict[str, Any]:
        number = account.numbers.get(asked["msisdn"])
        if number is None or number["country"] != asked["country"]:
            raise coded(420, 420, "method failed")
        return number

    async def balance(self, request: Request, account: Account, log: RestRequest) -> Response:
        return JSONResponse({"value": 10.0, "autoReload": False})

    async def applications(self, request: Request, account: Account, log: RestRequest) -> Response:
        found = [one.shown() for one in account.applications.values()]
        counts = {"page_size": 10, "page": 1, "total_items": len(found), "total_pages": 1}
        links = {"_links": {"self": {"href": "/v2/applications?page_size=10&page=1"}}}
        return JSONResponse({**counts, **links, "_embedded": {"applications": found}})

    async def application(self, request: Request, account: Account, log: RestRequest) -> Response:
        return JSONResponse(self.mine(request, account).shown())

    async def replace(self, request: Request, account: Account, log: RestRequest) -> Response:
        """All of it: a capability, a key or a setting that is left out is gone."""
        application = self.mine(request, account)
        try:
            log.body = asked = json.loads(await request.body())
            name, capabilities = asked["name"], asked.get("capabilities", {})
            webhooks = capabilities.get("voice", {}).get("webhooks", {})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise invalid(name="must be given") from None
        for hook in webhooks.values():
            if set(hook) - WEBHOOK or not re.match("https?://", str(hook.get("address"))):
                raise invalid(webhooks="address must be a URL")
            if hook.get("http_method", "GET") not in ("GET", "POST"):
                raise invalid(webhooks="http_method must be GET or POST")
        keys = {"keys": {"public_key": asked["keys"]["public_key"]}} if "keys" in asked else {}
        more = {name: asked[name] for name in ("privacy",) if name in asked}
        application.document = {"name": name, "capabilities": capabilities, **keys, **more}
        return JSONResponse(application.shown())

    def mine(self, request: Request, account: Account) -> Any:
        application = account.applications.get(request.path_params["id"])
        if application is None:
            raise problem(404, "Not Found", "Application does not exist, or you do not have access")
        return application


def query(request: Request, known: set[str]) -> dict[str, str]:
    asked = dict(request.query_params)
    if unknown := set(asked) - known:
        raise coded(420, 420, f"not simulated by this sandbox: {', '.join(sorted(unknown))}")
    return asked


async def form(request: Request, known: set[str], log: RestRequest) -> dict[str, str]:
    log.body = asked = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
    if unknown := set(asked) - known:
        raise coded(420, 420, f"not simulated by this sandbox: {', '.join(sorted(unknown))}")
    if "country" not in asked or "msisdn" not in asked:
        raise coded(420, 420, "country or msisdn is missing")
    return asked


def matching(numbers: list[dict[str, Any]], asked: Mapping[str, str]) -> list[dict[str, Any]]:
    pattern, how = asked.get("pattern", ""), asked.get("search_pattern", "0")
    fits = {"0": str.startswith, "1": str.__contains__, "2": str.endswith}.get(how)
    if fits is None:
        raise coded(420, 420, "search_pattern must be 0, 1 or 2")
    return [one for one in numbers if fits(one["msisdn"], pattern)]


def page(numbers: list[dict[str, Any]], asked: Mapping[str, str]) -> Response:
    """Nothing found is an empty object, without a count."""
    size, index = int(asked.get("size", 10)), int(asked.get("index", 1))
    if not 1 <= size <= 100 or index < 1:
        raise coded(420, 420, "size must be 1 to 100, index from 1")
    if not numbers:
        return JSONResponse({})
    return JSONResponse({"count": len(numbers), "numbers": numbers[(index - 1) * size : index * size]})
