"""Phone numbers: search, orders in XML that take their time, and what sends a number's calls to us.

That is three settings in a row: the application's URLs, the package (or the location of older accounts) that leads to
the application, and, for a package, activation: without it a number takes no calls.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from anycarrier import errors, numbers
from anycarrier.markup import Markup, document, first_text, texts, tree
from anycarrier.numbers import NumberFeature, NumberType, OwnedNumber, PendingOrder, SyncResult, north_american
from anycarrier.parsing import text_of
from anycarrier.provider import Provider
from anycarrier.rest import given
from anycarrier_bandwidth.credential import BandwidthCredential

API = "https://api.bandwidth.com"
XML = {"accept": "application/xml", "content-type": "application/xml"}
MOST_RESULTS, PAGE = 5000, 1000
GONE = ("5005", "5018", "5071")  # codes of a number that is not for sale any more
UNFINISHED = ("RECEIVED", "PROCESSING", "BACKORDERED", "")  # an order's words for "not yet"; COMPLETE is the good end
SERVICES = {"inboundActivated": "INBOUND", "outboundNationalActivated": "OUTBOUND_NATIONAL"}
PACKAGE, SET = "voiceConfigurationPackageId", "configure_number"
Steps = list[tuple[list[str], Callable[[], Awaitable[Any]]]]  # settings that differ, and what writes them


def owned(row: Element) -> OwnedNumber:
    """A row of the account's numbers."""
    raw = {each.tag: (each.text or "").strip() for each in row}
    known: dict[str, Any] = {"provider": "bandwidth", "features": frozenset({NumberFeature.VOICE}), "raw": raw}
    known |= {"number": north_american(raw["FullNumber"]), "id": raw["FullNumber"], "status": raw.get("Status", "")}
    return OwnedNumber(**known)


class BandwidthNumbers(Provider):
    """The numbers of one account."""

    credential: BandwidthCredential
    reads_xml = True

    def at(self, rest: str, version: str = "/api/v2") -> str:
        """A path of the account."""
        return f"{version}/accounts/{self.credential.account_id}/{rest}"

    @property
    def application(self) -> str:
        return self.at(f"applications/{self.credential.application_id}")

    async def xml(self, operation: str, method: str, path: str, sent: Markup | None = None, **request: Any) -> Element:
        """A request in XML, and the root of its answer; an empty answer is an empty element."""
        request |= {"operation": operation, "content": sent and document(sent), "headers": XML, "root": API}
        root = await self.request(method, path, **request)
        if not isinstance(root, Element | None):
            raise self.unreadable(operation, "the answer is no XML")
        return Element("Nothing") if root is None else root

    async def search_numbers(self, query: numbers.NumberQuery) -> list[numbers.AvailableNumber]:
        """There are no pages to turn, only a number of results to ask for. ``LCA=false``: no neighbouring areas."""
        area, contains, toll_free = query.area_code, query.contains, query.type is NumberType.TOLL_FREE
        if contains and not area and re.fullmatch("[0-9]{10}", contains):
            area, contains = contains[:3], contains[3:]
        for refused, why in (
            (query.country not in ("US", "CA"), f"it has numbers of US and CA, not of {query.country}"),
            (query.type not in (NumberType.LOCAL, NumberType.TOLL_FREE), "it has local and toll-free numbers"),
            (query.features != (NumberFeature.VOICE,), "it does not tell what a number can carry"),
            (query.limit * query.page > MOST_RESULTS, f"it gives {MOST_RESULTS} numbers at most"),
            (query.country == "CA" and not (area or contains or query.region), "CA needs an area code or a province"),
            (query.locality and not query.region, "a locality needs its state"),
            (toll_free and (query.region or (area and contains)), "toll-free: by area code or by digits, not both"),
            (contains and not re.fullmatch("[0-9A-Za-z]{4,7}", contains), "contains takes 4 to 7 digits and letters"),
        ):
            if refused:
                raise self.unsupported("search_numbers", why)
        local = {"areaCode": area, "state": query.region, "city": query.locality, "localVanity": contains}
        free = {"tollFreeVanity": contains, "tollFreeWildCardPattern": None if contains else area or "8**"}
        asked = {"quantity": query.limit * query.page, "LCA": "false", **given(free if toll_free else local)}
        same = {"provider": self.name} | query.model_dump(exclude={"area_code", "contains", "limit", "page", "extra"})

        def offers(body: Any) -> list[numbers.AvailableNumber]:
            found = [*texts(body, "TelephoneNumber")] if isinstance(body, Element) else body["phoneNumbers"]
            page, offered = found[query.limit * (query.page - 1) : query.limit * query.page], numbers.AvailableNumber
            return [offered(number=north_american(each), raw={"phoneNumber": each}, **same) for each in page]

        return await self.ask(
            offers, "GET", self.at("availableNumbers"), operation="search_numbers", params=asked, extra=query.extra,
            headers={"accept": "application/json"}, root=API,
        )  # fmt: skip

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        """Those in service."""
        operation, only = "list_numbers", given({"fullNumber": (number or "").removeprefix("+1")})
        asked = {"accountId": self.credential.account_id, "status": "Inservice", "size": PAGE, **only}

        def ask(page: int) -> Awaitable[Element]:
            return self.xml(operation, "GET", "/api/v2/tns", params={**asked, "page": page})

        def after(root: Element, page: int) -> int | None:
            return page + 1 if len([*root.iter("TelephoneNumber")]) == PAGE else None

        pages = await self.pages(ask, 1, after, operation=operation)
        held = [self.translate(operation, owned, row) for root in pages for row in root.iter("TelephoneNumber")]
        return [each for each in held if number in (None, each.number)]

    async def buy_number(
        self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None
    ) -> OwnedNumber | PendingOrder:
        """``extra`` are further elements of the order, such as ``CustomerOrderId``."""
        if not self.credential.site_id:
            raise errors.ConfigurationError("bandwidth site_id is missing: the sub-account that numbers are bought for")
        fields = {"SiteId": self.credential.site_id, **{name: str(value) for name, value in (extra or {}).items()}}
        wanted = {"TelephoneNumberList": {"TelephoneNumber": numbers.e164(number).removeprefix("+1")}}
        order = tree("Order", {**fields, "ExistingTelephoneNumberOrderType": wanted})
        root = await self.xml("buy_number", "POST", self.at("orders"), order)
        return await self.wait_for_order(self._pending(first_text(root, "id"), number, root), timeout)

    async def fetch_order(self, order_id: str) -> OwnedNumber | PendingOrder:
        """Fulfilled once the number is in service, which is a little after the order is complete."""
        root = await self.xml("fetch_order", "GET", self.at(f"orders/{self.path_id('fetch_order', order_id)}"))
        number = self.translate("fetch_order", north_american, first_text(root, "TelephoneNumber", "FullNumber"))
        if first_text(root, "OrderStatus") == "COMPLETE" and (held := await self.list_numbers(number)):
            return held[0]
        self._check_order("fetch_order", root)
        return self._pending(order_id, number, root)

    async def release_number(self, number: str) -> None:
        """Returns once Bandwidth has disconnected it, or when its order takes longer than :attr:`timeout`."""
        if not await self.list_numbers(number):
            raise self.not_held("release_number", number)
        ended = {"TelephoneNumberList": {"TelephoneNumber": number.removeprefix("+1")}}
        order = tree("DisconnectTelephoneNumberOrder", {"DisconnectTelephoneNumberOrderType": ended})
        root = await self.xml("release_number", "POST", self.at("disconnects"), order)
        path = f"disconnects/{first_text(root, 'id')}"
        await self.wait_while(lambda: self._unfinished("release_number", path), self.timeout)

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        """The callbacks' password cannot be read back: it is written where their user differs, so change both."""
        if not await self.list_numbers(number):
            return SyncResult.failed(str(self.not_held(SET, number)), webhook_url)
        path, (user, password) = self.application, self.credential.callback_login.values()
        wanted = dict.fromkeys(("CallInitiatedCallbackUrl", "CallStatusCallbackUrl"), webhook_url)
        wanted |= dict.fromkeys(("CallInitiatedMethod", "CallStatusMethod"), "POST")
        held = await self.xml(SET, "GET", path)
        differ = [name for name, value in {**wanted, "UserId": user}.items() if first_text(held, name) != value]
        body = tree("Application", {**wanted, "CallbackCreds": {"UserId": user, "Password": password}})
        steps: Steps = [(differ, lambda: self.xml(SET, "PATCH", path, body))]
        if self.credential.vcp_id:
            steps += await self._package(number)
        elif self.credential.site_id and self.credential.peer_id:
            steps += await self._location(number, self.credential.site_id, self.credential.peer_id)
        for names, write in steps:
            if names and not dry_run:
                await write()
        return SyncResult.of([name for names, _ in steps for name in names], webhook_url, dry_run=dry_run)

    async def unconfigure_number(self, number: str, *, webhook_url: str) -> SyncResult:
        """Deactivates the number's inbound calls. The application stays as it is: other numbers may use it."""
        operation = "unconfigure_number"
        if not await self.list_numbers(number):
            return SyncResult.failed(str(self.not_held(operation, number)), webhook_url)
        held = await self.xml(operation, "GET", self.application)
        ours = first_text(held, "CallInitiatedCallbackUrl") == webhook_url
        if ours and not self.credential.vcp_id:
            return SyncResult.failed("a location leads all its numbers here: move it in Bandwidth's App", webhook_url)
        settings = await self._settings(operation, number) if ours else {}
        if settings.get(PACKAGE) != self.credential.vcp_id or not settings.get("inboundActivated"):
            return SyncResult.of((), webhook_url)
        await self._activate(operation, number, "DEACTIVATE", ["INBOUND"])
        return SyncResult.of(["INBOUND"], webhook_url)

    async def _package(self, number: str) -> Steps:
        path = self.at(f"voiceConfigurationPackages/{self.credential.vcp_id}/phoneNumbers/bulk", "/v2")
        settings, added = await self._settings(SET, number), {"action": "ADD", "phoneNumbers": [number]}
        absent = [PACKAGE] if settings.get(PACKAGE) != self.credential.vcp_id else []
        lacking = [name for flag, name in SERVICES.items() if not settings.get(flag)]
        return [
            (absent, lambda: self.request("POST", path, operation=SET, json=added, root=API)),
            (lacking, lambda: self._activate(SET, number, "ACTIVATE", lacking)),
        ]

    async def _location(self, number: str, site: str, peer: str) -> Steps:
        place, leads = self.at(f"sites/{site}/sippeers/{peer}"), {"HttpVoiceV2AppId": self.credential.application_id}
        settings, ten = f"{place}/products/origination/settings", number.removeprefix("+1")
        lead = tree("SipPeerOriginationSettings", {"VoiceProtocol": "HTTP", "HttpSettings": leads})
        move = tree("SipPeerTelephoneNumbers", {"FullNumber": ten})
        led = first_text(await self.xml(SET, "GET", settings), *leads)
        there = first_text(await self.xml(SET, "GET", f"/api/v2/tns/{ten}/tndetails"), "PeerId")
        return [
            ([] if led in leads.values() else [*leads], lambda: self.xml(SET, "PUT", settings, lead)),
            ([] if there == peer else ["PeerId"], lambda: self.xml(SET, "POST", f"{place}/movetns", move)),
        ]

    async def _settings(self, operation: str, number: str) -> Mapping[str, Any]:
        """The number's voice settings, by Bandwidth's names; empty when it has none yet."""

        def after(body: Any, asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
            cursor = (body.get("page") or {}).get("afterCursor")
            return {**asked, "afterCursor": cursor} if cursor else None

        path, most = self.at("phoneNumbers/voice", "/v2"), {"limit": PAGE}
        rows = await self.listed(path, "data", operation=operation, params=most, after=after, root=API)
        return next((row for row in rows if row.get("phoneNumber") == number), {})

    async def _activate(self, operation: str, number: str, action: str, services: list[str]) -> None:
        order = {"action": action, "phoneNumbers": [number], "services": {"voice": services}}
        made = await self.request("POST", self.at("serviceActivation"), operation=operation, json=order, root=API)
        path = f"serviceActivation/{self.translate(operation, lambda: made['data']['orderId'])}"
        await self.wait_while(lambda: self._unfinished(operation, path), self.timeout)

    def _pending(self, order_id: str, number: str, root: Element) -> PendingOrder:
        told = {each.tag: each.text for each in root.iter() if each.text and each.text.strip()}
        return PendingOrder(id=order_id, number=number, provider=self.name, raw=told)

    async def _unfinished(self, operation: str, path: str) -> bool:
        return self._check_order(operation, await self.request("GET", self.at(path), operation=operation, root=API))

    def _check_order(self, operation: str, body: Any) -> bool:
        """Whether it is not done yet; the error of one that has failed."""
        xml = isinstance(body, Element)
        status = first_text(body, "OrderStatus") if xml else text_of((body or {}).get("data"), "orderStatus")
        if status not in ("COMPLETE", *UNFINISHED):
            code, words = self.error_detail(body)
            kind = errors.NumberUnavailable if code in GONE else errors.RequestRejected
            raise self.error(operation, None, code=code, message=f"the order is {status}: {words}", kind=kind)
        return status in UNFINISHED
