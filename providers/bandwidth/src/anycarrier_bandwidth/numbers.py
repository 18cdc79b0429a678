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

from anycarrier import errors
from anycarrier.numbers import (
    AvailableNumber,
    NumberFeature,
    NumberQuery,
    NumberType,
    OwnedNumber,
    PendingOrder,
    SyncResult,
    e164,
    normal,
)
from anycarrier.rest import given
from anycarrier_bandwidth.api import API, GONE, BandwidthApi, text, tree

MOST_RESULTS, PAGE = 5000, 1000
UNFINISHED = ("RECEIVED", "PROCESSING", "BACKORDERED", "")
"""An order's words for "not yet"; COMPLETE is the one good end."""

SERVICES = {"inboundActivated": "INBOUND", "outboundNationalActivated": "OUTBOUND_NATIONAL"}
"""What a number of ours is to do: Bandwidth's flag of it -> the service's name."""

Step = tuple[list[str], Callable[[], Awaitable[Any]]]
"""Settings that differ, and what writes them."""


def national(number: str) -> str:
    """Ten digits, as the numbers API has it."""
    return number.removeprefix("+1")


def international(number: str) -> str:
    """E.164 of ten digits, or of what is E.164 already; ``ValueError`` for anything else."""
    return e164(normal(f"1{number}" if len(number) == 10 else number) or "")


def listing(kind: str, number: str) -> dict[str, Any]:
    """The part of an order that names its number."""
    return {kind: {"TelephoneNumberList": {"TelephoneNumber": national(number)}}}


class BandwidthNumbers(BandwidthApi):
    """The numbers of one account."""

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
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
        wanted = {"quantity": query.limit * query.page, "LCA": "false", **given(free if toll_free else local)}

        def offers(body: Any) -> list[AvailableNumber]:
            xml = isinstance(body, Element)
            found = [each.text or "" for each in body.iter("TelephoneNumber")] if xml else body["phoneNumbers"]
            told: dict[str, Any] = {"provider": self.name, **query.model_dump(include={"country", "type", "features"})}
            told |= {"region": query.region, "locality": query.locality}
            page = found[query.limit * (query.page - 1) : query.limit * query.page]
            return [AvailableNumber(number=international(each), raw={"phoneNumber": each}, **told) for each in page]

        return await self.ask(
            offers, "GET", self.at("availableNumbers"), operation="search_numbers", params={**wanted, **query.extra},
            headers={"accept": "application/json"}, root=API,
        )  # fmt: skip

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        """Those in service."""
        asked = given({"accountId": self.credential.account_id, "status": "Inservice", "size": PAGE})
        asked |= {"fullNumber": national(number)} if number is not None else {}

        async def page_of(page: int) -> Element:
            return await self.xml("list_numbers", "GET", "/api/v2/tns", params={**asked, "page": page})

        def rows(root: Element) -> list[Element]:
            return [row for row in root.iter("TelephoneNumber") if row.find("FullNumber") is not None]

        pages = await self.pages(
            page_of, 1, lambda root, page: page + 1 if len(rows(root)) == PAGE else None, operation="list_numbers"
        )
        found = [{each.tag: (each.text or "").strip() for each in row} for root in pages for row in rows(root)]
        try:
            held = [
                OwnedNumber(number=international(row["FullNumber"]), provider=self.name, id=row["FullNumber"],
                            status=row.get("Status", ""), features=frozenset({NumberFeature.VOICE}), raw=row)
                for row in found
            ]  # fmt: skip
        except ValueError:
            raise self.unreadable("list_numbers", "a number that is none") from None
        return [each for each in held if number in (None, each.number)]

    async def buy_number(
        self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None
    ) -> OwnedNumber | PendingOrder:
        """``extra`` are further elements of the order, such as ``CustomerOrderId``."""
        if not self.credential.site_id:
            raise errors.ConfigurationError("bandwidth site_id is missing: the sub-account that numbers are bought for")
        parts = {"SiteId": self.credential.site_id, **listing("ExistingTelephoneNumberOrderType", e164(number))}
        order = tree("Order", {**parts, **{name: str(value) for name, value in (extra or {}).items()}})
        root = await self.xml("buy_number", "POST", self.at("orders"), order)
        pending = PendingOrder(id=text(root, "id"), number=number, provider=self.name, raw=_told(root))
        return await self.wait_for_order(pending, timeout)

    async def fetch_order(self, order_id: str) -> OwnedNumber | PendingOrder:
        """Fulfilled once the number is in service, which is a little after the order is complete."""
        path = self.at(f"orders/{self.path_id('fetch_order', order_id)}")
        root = await self.xml("fetch_order", "GET", path)
        status = text(root, "OrderStatus")
        try:
            number = international(text(root, "TelephoneNumber", "FullNumber"))
        except ValueError:
            raise self.unreadable("fetch_order", "the order names no number") from None
        if status == "COMPLETE" and (held := await self.list_numbers(number)):
            return held[0]
        self._check_order("fetch_order", status, root)
        return PendingOrder(id=order_id, number=number, provider=self.name, raw=_told(root))

    async def release_number(self, number: str) -> None:
        """Returns once Bandwidth has disconnected it, or when its order takes longer than :attr:`timeout`."""
        if not await self.list_numbers(number):
            raise self.not_held("release_number", number)
        kind = "DisconnectTelephoneNumberOrder"
        order = tree(kind, listing(f"{kind}Type", number))
        root = await self.xml("release_number", "POST", self.at("disconnects"), order)
        await self._done("release_number", f"disconnects/{text(root, 'id')}")

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        """The callbacks' password cannot be read back: it is written where their user differs, so change both."""
        if not await self.list_numbers(number):
            return SyncResult.failed(str(self.not_held("configure_number", number)), webhook_url)
        steps = [await self._application(webhook_url)]
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
        if not await self.list_numbers(number):
            return SyncResult.failed(str(self.not_held("unconfigure_number", number)), webhook_url)
        held = await self.xml("unconfigure_number", "GET", self.at(f"applications/{self.credential.application_id}"))
        ours = text(held, "CallInitiatedCallbackUrl") == webhook_url
        if ours and not self.credential.vcp_id:
            why = "a location sends all its numbers to one application: move the number in the Bandwidth App"
            return SyncResult.failed(why, webhook_url)
        settings = await self._settings("unconfigure_number", number) if ours else {}
        package, active = settings.get("voiceConfigurationPackageId"), settings.get("inboundActivated")
        if package != self.credential.vcp_id or not active:
            return SyncResult.of((), webhook_url)
        await self._activate("unconfigure_number", number, "DEACTIVATE", ["INBOUND"])
        return SyncResult.of(["INBOUND"], webhook_url)

    async def check_credential(self) -> str:
        """The account id, once a new login was accepted and the application is there."""
        await self.fetch_token("check_credential")
        await self.xml("check_credential", "GET", self.at(f"applications/{self.credential.application_id}"))
        return self.credential.account_id

    # --- what sends a number's calls to us --------------------------------------------------------------------------

    async def _application(self, url: str) -> Step:
        path, login = self.at(f"applications/{self.credential.application_id}"), self.credential.callback_login
        urls = {"CallInitiatedCallbackUrl": url, "CallStatusCallbackUrl": url}
        wanted = {**urls, "CallInitiatedMethod": "POST", "CallStatusMethod": "POST"}
        held = await self.xml("configure_number", "GET", path)
        differ = [name for name, value in (*wanted.items(), ("UserId", login["username"])) if text(held, name) != value]
        written = {**wanted, "CallbackCreds": {"UserId": login["username"], "Password": login["password"]}}
        return differ, lambda: self.xml("configure_number", "PATCH", path, tree("Application", written))

    async def _package(self, number: str) -> list[Step]:
        settings = await self._settings("configure_number", number)
        path = f"voiceConfigurationPackages/{self.credential.vcp_id}/phoneNumbers/bulk"
        key, added = "voiceConfigurationPackageId", {"action": "ADD", "phoneNumbers": [number]}
        lacking = [name for flag, name in SERVICES.items() if not settings.get(flag)]
        return [
            ([key] if settings.get(key) != self.credential.vcp_id else [],
             lambda: self.request("POST", self._universal(path), operation="configure_number", json=added, root=API)),
            (lacking, lambda: self._activate("configure_number", number, "ACTIVATE", lacking)),
        ]  # fmt: skip

    async def _location(self, number: str, site: str, peer: str) -> list[Step]:
        operation, place = "configure_number", self.at(f"sites/{site}/sippeers/{peer}")
        leads, settings = self.credential.application_id, f"{place}/products/origination/settings"
        there = await self.xml(operation, "GET", settings)
        details = await self.xml(operation, "GET", f"/api/v2/tns/{national(number)}/tndetails")
        http = {"VoiceProtocol": "HTTP", "HttpSettings": {"HttpVoiceV2AppId": leads}}
        chosen = tree("SipPeerOriginationSettings", http)
        moved = tree("SipPeerTelephoneNumbers", {"FullNumber": national(number)})
        return [
            (["HttpVoiceV2AppId"] if text(there, "HttpVoiceV2AppId") != leads else [],
             lambda: self.xml(operation, "PUT", settings, chosen)),
            (["PeerId"] if text(details, "PeerId") != peer else [],
             lambda: self.xml(operation, "POST", f"{place}/movetns", moved)),
        ]  # fmt: skip

    def _universal(self, rest: str) -> str:
        return f"/v2/accounts/{self.credential.account_id}/{rest}"

    async def _settings(self, operation: str, number: str) -> Mapping[str, Any]:
        """The number's voice settings, by Bandwidth's names; empty when it has none yet."""
        rows = await self.listed(
            self._universal("phoneNumbers/voice"), "data", operation=operation, params={"limit": 1000}, root=API,
            after=lambda body, asked: (
                {**asked, "afterCursor": then} if (then := (body.get("page") or {}).get("afterCursor")) else None
            ),
        )  # fmt: skip
        return next((row for row in rows if row.get("phoneNumber") == number), {})

    async def _activate(self, operation: str, number: str, action: str, services: list[str]) -> None:
        order = {"action": action, "phoneNumbers": [number], "services": {"voice": services}}
        path = self.at("serviceActivation")
        order_id = await self.ask(
            lambda body: str(body["data"]["orderId"]), "POST", path, operation=operation, json=order, root=API
        )
        await self._done(operation, f"serviceActivation/{order_id}")

    # --- orders -----------------------------------------------------------------------------------------------------

    async def _done(self, operation: str, path: str) -> None:
        """Wait for an order of no number: :attr:`timeout` seconds, after which it goes on without us."""
        clock = asyncio.get_running_loop().time
        until = clock() + self.timeout
        while True:
            answer = await self.request("GET", self.at(path), operation=operation, root=API)
            xml = isinstance(answer, Element)
            status = text(answer, "OrderStatus") if xml else str((answer.get("data") or {}).get("orderStatus") or "")
            self._check_order(operation, status, answer)
            if status not in UNFINISHED or clock() >= until:
                return
            await asyncio.sleep(self.order_poll)

    def _check_order(self, operation: str, status: str, body: Any) -> None:
        if status not in ("COMPLETE", *UNFINISHED):
            code, words = self.error_detail(body)
            kind = errors.NumberUnavailable if code in GONE else errors.RequestRejected
            raise self.error(operation, None, code=code, message=f"the order is {status}: {words}", kind=kind)


def _told(root: Element) -> dict[str, str]:
    return {each.tag: each.text for each in root.iter() if each.text and each.text.strip()}
