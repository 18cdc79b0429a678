"""Phone numbers: search, orders in XML that take their time, and what sends a number's calls to us.

That is three settings in a row: the application's URLs, the package (or the location of older accounts) that leads to
the application, and, for a package, activation: without it a number takes no calls.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from anycarrier import errors, numbers
from anycarrier.markup import Markup, document, texts, tree
from anycarrier.numbers import NumberFeature, NumberType, OwnedNumber, PendingOrder, SyncResult
from anycarrier.provider import Provider
from anycarrier.rest import given
from anycarrier_bandwidth.credential import BandwidthCredential

API = "https://api.bandwidth.com"
XML = {"accept": "application/xml", "content-type": "application/xml"}
MOST_RESULTS, PAGE = 5000, 1000
GONE = ("5005", "5018", "5071")  # codes of a number that is not for sale any more
UNFINISHED = ("RECEIVED", "PROCESSING", "BACKORDERED", "")  # an order's words for "not yet"; COMPLETE is the good end
SERVICES = {"inboundActivated": "INBOUND", "outboundNationalActivated": "OUTBOUND_NATIONAL"}
PACKAGE = "voiceConfigurationPackageId"
Steps = list[tuple[list[str], Callable[[], Awaitable[Any]]]]  # settings that differ, and what writes them


def text(root: Element, *names: str) -> str:
    """The first text in an element of one of these names; "" when there is none."""
    return next(texts(root, *names), "")


def national(number: str) -> str:
    """Ten digits, as the numbers API has it."""
    return number.removeprefix("+1")


def international(number: str) -> str:
    """E.164 of ten digits, or of what is E.164 already; ``ValueError`` for anything else."""
    return numbers.e164(numbers.normal(f"1{number}" if len(number) == 10 else number) or "")


def order_of(kind: str, inner: str, number: str, fields: Mapping[str, str] | None = None) -> Markup:
    """An order about one number."""
    return tree(kind, {**(fields or {}), inner: {"TelephoneNumberList": {"TelephoneNumber": national(number)}}})


class BandwidthNumbers(Provider):
    """The numbers of one account."""

    credential: BandwidthCredential
    reads_xml = True

    def at(self, rest: str, version: str = "/api/v2") -> str:
        """A path of the account."""
        return f"{version}/accounts/{self.credential.account_id}/{rest}"

    async def xml(self, operation: str, method: str, path: str, sent: Markup | None = None, **request: Any) -> Element:
        """A request in XML, and the root of its answer; an empty answer is an empty element."""
        body = document(sent) if sent is not None else None
        root = await self.request(method, path, operation=operation, content=body, headers=XML, root=API, **request)
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
            return [offered(number=international(each), raw={"phoneNumber": each}, **same) for each in page]

        return await self.ask(
            offers, "GET", self.at("availableNumbers"), operation="search_numbers", params=asked, extra=query.extra,
            headers={"accept": "application/json"}, root=API,
        )  # fmt: skip

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        """Those in service."""
        asked: dict[str, Any] = {"accountId": self.credential.account_id, "status": "Inservice", "size": PAGE}
        asked |= {"fullNumber": national(number)} if number is not None else {}

        def owned(root: Element) -> list[OwnedNumber]:
            rows = [{each.tag: (each.text or "").strip() for each in row} for row in root.iter("TelephoneNumber")]
            known: dict[str, Any] = {"provider": self.name, "features": frozenset({NumberFeature.VOICE})}
            return [OwnedNumber(number=international(row["FullNumber"]), id=row["FullNumber"], raw=row,
                                status=row.get("Status", ""), **known) for row in rows]  # fmt: skip

        async def page_of(page: int) -> list[OwnedNumber]:
            root = await self.xml("list_numbers", "GET", "/api/v2/tns", params={**asked, "page": page})
            return self.translate("list_numbers", owned, root)

        def after(rows: list[OwnedNumber], page: int) -> int | None:
            return page + 1 if len(rows) == PAGE else None

        pages = await self.pages(page_of, 1, after, operation="list_numbers")
        return [each for rows in pages for each in rows if number in (None, each.number)]

    async def buy_number(
        self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None
    ) -> OwnedNumber | PendingOrder:
        """``extra`` are further elements of the order, such as ``CustomerOrderId``."""
        if not self.credential.site_id:
            raise errors.ConfigurationError("bandwidth site_id is missing: the sub-account that numbers are bought for")
        fields = {"SiteId": self.credential.site_id, **{name: str(value) for name, value in (extra or {}).items()}}
        order = order_of("Order", "ExistingTelephoneNumberOrderType", numbers.e164(number), fields)
        root = await self.xml("buy_number", "POST", self.at("orders"), order)
        return await self.wait_for_order(self._pending(text(root, "id"), number, root), timeout)

    async def fetch_order(self, order_id: str) -> OwnedNumber | PendingOrder:
        """Fulfilled once the number is in service, which is a little after the order is complete."""
        root = await self.xml("fetch_order", "GET", self.at(f"orders/{self.path_id('fetch_order', order_id)}"))
        number = self.translate("fetch_order", lambda: international(text(root, "TelephoneNumber", "FullNumber")))
        if text(root, "OrderStatus") == "COMPLETE" and (held := await self.list_numbers(number)):
            return held[0]
        self._check_order("fetch_order", root)
        return self._pending(order_id, number, root)

    async def release_number(self, number: str) -> None:
        """Returns once Bandwidth has disconnected it, or when its order takes longer than :attr:`timeout`."""
        if not await self.list_numbers(number):
            raise self.not_held("release_number", number)
        order = order_of("DisconnectTelephoneNumberOrder", "DisconnectTelephoneNumberOrderType", number)
        root = await self.xml("release_number", "POST", self.at("disconnects"), order)
        await self._done("release_number", f"disconnects/{text(root, 'id')}")

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        """The callbacks' password cannot be read back: it is written where their user differs, so change both."""
        if not await self.list_numbers(number):
            return SyncResult.failed(str(self.not_held("configure_number", number)), webhook_url)
        steps = await self._application(webhook_url)
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
        held = await self.xml(operation, "GET", self.at(f"applications/{self.credential.application_id}"))
        ours = text(held, "CallInitiatedCallbackUrl") == webhook_url
        if ours and not self.credential.vcp_id:
            return SyncResult.failed("a location leads all its numbers here: move it in Bandwidth's App", webhook_url)
        settings = await self._settings(operation, number) if ours else {}
        if settings.get(PACKAGE) != self.credential.vcp_id or not settings.get("inboundActivated"):
            return SyncResult.of((), webhook_url)
        await self._activate(operation, number, "DEACTIVATE", ["INBOUND"])
        return SyncResult.of(["INBOUND"], webhook_url)

    async def _application(self, url: str) -> Steps:
        path, login = self.at(f"applications/{self.credential.application_id}"), self.credential.callback_login
        urls = {"CallInitiatedCallbackUrl": url, "CallStatusCallbackUrl": url}
        wanted = {**urls, "CallInitiatedMethod": "POST", "CallStatusMethod": "POST"}
        held = await self.xml("configure_number", "GET", path)
        differ = [name for name, value in (*wanted.items(), ("UserId", login["username"])) if text(held, name) != value]
        written = {**wanted, "CallbackCreds": {"UserId": login["username"], "Password": login["password"]}}
        return [(differ, lambda: self.xml("configure_number", "PATCH", path, tree("Application", written)))]

    async def _package(self, number: str) -> Steps:
        settings, operation = await self._settings("configure_number", number), "configure_number"
        path = self.at(f"voiceConfigurationPackages/{self.credential.vcp_id}/phoneNumbers/bulk", "/v2")
        added, there = {"action": "ADD", "phoneNumbers": [number]}, settings.get(PACKAGE) == self.credential.vcp_id
        lacking = [name for flag, name in SERVICES.items() if not settings.get(flag)]
        return [
            ([] if there else [PACKAGE],
             lambda: self.request("POST", path, operation=operation, json=added, root=API)),
            (lacking, lambda: self._activate(operation, number, "ACTIVATE", lacking)),
        ]  # fmt: skip

    async def _location(self, number: str, site: str, peer: str) -> Steps:
        operation, place = "configure_number", self.at(f"sites/{site}/sippeers/{peer}")
        leads, settings = self.credential.application_id, f"{place}/products/origination/settings"
        led = text(await self.xml(operation, "GET", settings), "HttpVoiceV2AppId") == leads
        there = text(await self.xml(operation, "GET", f"/api/v2/tns/{national(number)}/tndetails"), "PeerId") == peer
        http = {"VoiceProtocol": "HTTP", "HttpSettings": {"HttpVoiceV2AppId": leads}}
        lead = tree("SipPeerOriginationSettings", http)
        moved = tree("SipPeerTelephoneNumbers", {"FullNumber": national(number)})
        return [
            ([] if led else ["HttpVoiceV2AppId"], lambda: self.xml(operation, "PUT", settings, lead)),
            ([] if there else ["PeerId"], lambda: self.xml(operation, "POST", f"{place}/movetns", moved)),
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
        path = self.at("serviceActivation")
        made = await self.request("POST", path, operation=operation, json=order, root=API)
        await self._done(operation, f"serviceActivation/{self.translate(operation, lambda: made['data']['orderId'])}")

    def _pending(self, order_id: str, number: str, root: Element) -> PendingOrder:
        told = {each.tag: each.text for each in root.iter() if each.text and each.text.strip()}
        return PendingOrder(id=order_id, number=number, provider=self.name, raw=told)

    async def _done(self, operation: str, path: str) -> None:
        """Wait for an order of no number: :attr:`timeout` seconds, after which it goes on without us."""
        clock = asyncio.get_running_loop().time
        until = clock() + self.timeout
        while self._check_order(operation, await self.request("GET", self.at(path), operation=operation, root=API)):
            if clock() >= until:
                return
            await asyncio.sleep(self.order_poll)

    def _check_order(self, operation: str, body: Any) -> bool:
        """Whether it is not done yet; the error of one that has failed."""
        xml = isinstance(body, Element)
        status = text(body, "OrderStatus") if xml else str(((body or {}).get("data") or {}).get("orderStatus") or "")
        if status not in ("COMPLETE", *UNFINISHED):
            code, words = self.error_detail(body)
            kind = errors.NumberUnavailable if code in GONE else errors.RequestRejected
            raise self.error(operation, None, code=code, message=f"the order is {status}: {words}", kind=kind)
        return status in UNFINISHED
