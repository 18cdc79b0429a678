"""The REST resources of numbers: on offer, ordered, disconnected, held. XML, but for the search's JSON.

Orders take time: RECEIVED first, then COMPLETE or FAILED.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from xml.etree import ElementTree as ET

from anycarrier.testing.sandbox_numbers import GONE_NUMBER, LOCAL, PENDING_NUMBER, TOLL_FREE, NumberForSale
from anycarrier_bandwidth.sandbox.account import Account, Number, Order, national, stamp
from anycarrier_bandwidth.sandbox.rest import NUMBERS, Operation, Refusal, Reply, Rest, node, text_of

_SEARCHES = {
    "areaCode", "state", "city", "zip", "npaNxx", "npaNxxx", "rateCenter", "lata", "localVanity", "tollFreeVanity",
    "tollFreeWildCardPattern", "quantity", "enableTNDetail", "LCA", "endsIn", "orderBy",
}  # fmt: skip
_UNPLAYED = {"zip", "npaNxx", "npaNxxx", "rateCenter", "lata", "orderBy"}
_NATIONAL = re.compile(r"(?:\+1)?([2-9][0-9]{9})")


async def search(rest: Rest) -> Reply:
    """Without ``LCA=false`` numbers nearby are found too: here, those of the whole state or country."""
    if unknown := set(rest.query) - _SEARCHES:
        raise Refusal(400, f"unknown parameter {min(unknown)[:40]}", code="4000", shape="SearchResult")
    if unplayed := _UNPLAYED & set(rest.query):
        raise Refusal(400, f"{min(unplayed)} is not simulated by this sandbox", code="4000", shape="SearchResult")
    quantity = rest.number("quantity", 5000, 5000)
    if rest.get("city") and not rest.get("state"):
        raise Refusal(400, "The state is required with a city", code="4010", shape="SearchResult")
    if rest.get("areaCode") and not re.fullmatch(r"[2-9][0-9]{2}", rest.get("areaCode")):
        raise Refusal(400, "The area code of telephone numbers can not be invalid", code="4001", shape="SearchResult")
    if (vanity := rest.get("localVanity") or rest.get("tollFreeVanity")) and not 4 <= len(vanity) <= 7:
        raise Refusal(400, "Vanity must be 4 to 7 characters", code="4015", shape="SearchResult")
    found = _found(rest)[:quantity]
    if "json" in rest.headers.get("accept", ""):
        return Reply(200, {"phoneNumbers": [offer.number for offer in found], "resultCount": len(found)})
    listed = node("TelephoneNumberList")
    for offer in found:
        ET.SubElement(listed, "TelephoneNumber").text = national(offer.number)
    return Reply(200, node("SearchResult", {"ResultCount": len(found)}, listed))


def _found(rest: Rest) -> list[NumberForSale]:
    inventory = rest.sandbox.inventory
    if pattern := rest.get("tollFreeWildCardPattern"):
        like = re.compile(re.escape(pattern).replace(r"\*", "[0-9]"))
        return [offer for offer in inventory.search(type=TOLL_FREE) if like.match(offer.number[2:])]
    if rest.get("tollFreeVanity"):
        return inventory.search(type=TOLL_FREE, contains=rest.get("tollFreeVanity"))
    exact = rest.get("LCA", "true") != "true"
    code = rest.get("areaCode") or None
    return [
        offer
        for country in ("US", "CA")
        for offer in inventory.search(
            country=country, type=LOCAL, area_code=code if exact else None, contains=rest.get("localVanity") or None,
            region=rest.get("state") or None, locality=rest.get("city") or None,
        )
    ]  # fmt: skip


def _listed(root: ET.Element, path: str, code: str, shape: str) -> tuple[str, ...]:
    """E.164 of the numbers at ``path``."""
    texts = [(element.text or "").strip() for element in root.findall(path)]
    found = [_NATIONAL.fullmatch(text) for text in texts]
    if not texts or not all(found):
        raise Refusal(400, "Invalid input telephone number list", code=code, shape=shape)
    return tuple(f"+1{each[1]}" for each in found if each is not None)


# --- orders ---------------------------------------------------------------------------------------------------------

_EXISTING = "ExistingTelephoneNumberOrderType"
_ORDER_TYPES = re.compile(r"(AreaCode|RateCenter|NPANXX|TollFree\w+|LATA|ZIP|City|State|Combined)SearchAndOrderType")


async def order(rest: Rest) -> Reply:
    root = rest.body
    if (other := next((child.tag for child in root if _ORDER_TYPES.fullmatch(child.tag)), None)) is not None:
        raise Refusal(400, f"{other} is not simulated by this sandbox", code="5002", shape="OrderResponse")
    if root.find(_EXISTING) is None:
        return Reply(500)  # as the real one answers an order without its wrapper: with nothing
    if not text_of(root, "SiteId"):
        raise Refusal(400, "The SiteId is required", code="5022", shape="OrderResponse")
    if not any(site == text_of(root, "SiteId") for site, _ in rest.account.peers):
        raise Refusal(400, "The SiteId submitted is invalid.", code="5016", shape="OrderResponse")
    numbers = _listed(root, f"{_EXISTING}/TelephoneNumberList/TelephoneNumber", "5001", "OrderResponse")
    made = Order(numbers, text_of(root, "CustomerOrderId"), text_of(root, "SiteId"))
    rest.account.orders[made.id] = made
    rest.sandbox.start(_buy(rest, made))
    return Reply(201, node("OrderResponse", {}, _order_element(made)))


async def _buy(rest: Rest, made: Order) -> None:
    sandbox = rest.sandbox
    await asyncio.sleep(sandbox.pending_for if PENDING_NUMBER in made.numbers else sandbox.order_seconds)
    free = [number for number in made.numbers if sandbox.inventory.find(number) is not None]
    if len(free) < len(made.numbers) or GONE_NUMBER in made.numbers:
        made.status, made.error = "FAILED", ("5005", "The telephone number is unavailable for ordering")
        return
    for number in made.numbers:
        sandbox.inventory.sell(number)
        rest.account.numbers[number] = Number(number, site=made.site)
    made.status = "COMPLETE"


def _order_element(made: Order) -> ET.Element:
    listed = node("TelephoneNumberList")
    for number in made.numbers:
        ET.SubElement(listed, "TelephoneNumber").text = national(number)
    fields = {
        "CustomerOrderId": made.customer_id or None, "id": made.id, "OrderCreateDate": stamp(made.created),
        "BackOrderRequested": False, "PartialAllowed": True, "SiteId": made.site,
    }  # fmt: skip
    return node("Order", fields, node(_EXISTING, {}, listed))


async def fetch_order(rest: Rest) -> Reply:
    made = _order(rest, rest.account.orders)
    done = made.numbers if made.status == "COMPLETE" else ()
    failed = made.numbers if made.status == "FAILED" else ()
    parts = [node(name, {}, *(node("TelephoneNumber", {"FullNumber": national(number)}) for number in numbers))
             for name, numbers in (("CompletedNumbers", done), ("FailedNumbers", failed)) if numbers]  # fmt: skip
    if made.error:
        parts.append(node("ErrorList", {}, node("Error", {"Code": made.error[0], "Description": made.error[1]})))
    fields = {"CompletedQuantity": len(done), "FailedQuantity": len(failed), "OrderStatus": made.status}
    return Reply(200, node("OrderResponse", fields, _order_element(made), *parts))


def _order(rest: Rest, orders: dict[str, Order]) -> Order:
    if (found := orders.get(rest.path["order"])) is None:
        raise Refusal(404, "The order does not exist", code="5020", shape="ResponseStatus")
    return found


# --- disconnects ----------------------------------------------------------------------------------------------------

_DISCONNECT = "DisconnectTelephoneNumberOrder"


async def disconnect(rest: Rest) -> Reply:
    path = f"{_DISCONNECT}Type/TelephoneNumberList/TelephoneNumber"
    numbers = _listed(rest.body, path, "5001", f"{_DISCONNECT}Response")
    if any(number not in rest.account.numbers for number in numbers):
        why = "The telephone number does not belong to the account"
        raise Refusal(400, why, code="5076", shape=f"{_DISCONNECT}Response")
    made = Order(numbers)
    rest.account.disconnects[made.id] = made
    rest.sandbox.start(_release(rest, made))
    return Reply(201, _disconnect_element(made))


async def _release(rest: Rest, made: Order) -> None:
    await asyncio.sleep(rest.sandbox.order_seconds)
    for number in made.numbers:
        rest.account.numbers.pop(number, None)
        rest.sandbox.inventory.take_back(number)
    made.status = "COMPLETE"


def _disconnect_element(made: Order) -> ET.Element:
    listed = node("TelephoneNumberList")
    for number in made.numbers:
        ET.SubElement(listed, "TelephoneNumber").text = national(number)
    kind = node(f"{_DISCONNECT}Type", {"DisconnectMode": "normal"}, listed)
    request = node("orderRequest", {"OrderCreateDate": stamp(made.created), "id": made.id}, kind)
    return node(f"{_DISCONNECT}Response", {"OrderStatus": made.status}, request)


async def fetch_disconnect(rest: Rest) -> Reply:
    return Reply(200, _disconnect_element(_order(rest, rest.account.disconnects)))


# --- what the account holds -----------------------------------------------------------------------------------------


async def list_tns(rest: Rest) -> Reply:
    if unknown := set(rest.query) - {"accountId", "status", "page", "size", "fullNumber"}:
        raise Refusal(400, f"{min(unknown)[:40]} is not simulated by this sandbox", code="1006", shape="ResponseStatus")
    size, page = rest.number("size", 500, 2500), rest.number("page", 1, 10**6)
    statuses = [status for status in rest.get("status").split(",") if status]
    wanted = rest.get("fullNumber")
    held = [
        number for number in rest.account.numbers.values()
        if (not statuses or number.status in statuses) and wanted in ("", national(number.number), number.number)
    ]  # fmt: skip
    shown = held[size * (page - 1) : size * page]
    rows = [node("TelephoneNumber", _details(rest.account, number)) for number in shown]
    listed = node("TelephoneNumbers", {}, *rows)
    return Reply(200, node("TelephoneNumbersResponse", {"TelephoneNumberCount": len(held)}, listed))


def _details(account: Account, number: Number) -> dict[str, Any]:
    return {
        "FullNumber": national(number.number), "Tier": 0, "VendorName": "Bandwidth CLEC", "Status": number.status,
        "AccountId": account.id, "LastModified": stamp(number.since), "InServiceDate": stamp(number.since),
    }  # fmt: skip


async def in_service(rest: Rest) -> Reply:
    held = [number for number in rest.account.numbers.values() if number.status == "Inservice"]
    listed = node("TelephoneNumbers", {"Count": len(held)})
    for number in held:
        ET.SubElement(listed, "TelephoneNumber").text = national(number.number)
    return Reply(200, node("TNs", {"TotalCount": len(held)}, listed))


def held(rest: Rest) -> Number:
    """The number of a path, of whichever of the login's accounts has it."""
    found = _NATIONAL.fullmatch(rest.path["tn"])
    for account in rest.sandbox.accounts.values():
        if found is not None and (number := account.numbers.get(f"+1{found[1]}")) is not None:
            return number
    raise Refusal(404, "The telephone number is not on the account", code="5076", shape="ResponseStatus")


async def details(rest: Rest) -> Reply:
    number = held(rest)
    places = [node("Site", {"Id": number.site}), node("SipPeer", {"PeerId": number.peer})]
    told = node("TelephoneNumberDetails", _details(rest.account, number), *places)
    return Reply(200, node("TelephoneNumberResponse", {}, told))


async def move(rest: Rest) -> Reply:
    """Put numbers into a location."""
    shape = "SipPeerTelephoneNumberMoveResponse"
    numbers = _listed(rest.body, "FullNumber", "12512", shape)
    if (rest.path["site"], rest.path["peer"]) not in rest.account.peers:
        raise Refusal(400, "The location does not exist", code="5018", shape=shape)
    if any(number not in rest.account.numbers for number in numbers):
        raise Refusal(400, "The telephone number does not belong to the account", code="5076", shape=shape)
    for number in numbers:
        rest.account.numbers[number].site, rest.account.numbers[number].peer = rest.path["site"], rest.path["peer"]
    return Reply(200, rest.body)


OPERATIONS = [
    Operation("GET", NUMBERS + "/availableNumbers", search),
    Operation("POST", NUMBERS + "/orders", order, xml="Order"),
    Operation("GET", NUMBERS + "/orders/{order}", fetch_order),
    Operation("POST", NUMBERS + "/disconnects", disconnect, xml=_DISCONNECT),
    Operation("GET", NUMBERS + "/disconnects/{order}", fetch_disconnect),
    Operation("GET", NUMBERS + "/inserviceNumbers", in_service),
    Operation("GET", "/api/v2/tns", list_tns),
    Operation("GET", "/api/v2/tns/{tn}/tndetails", details),
    Operation(
        "POST", NUMBERS + "/sites/{site}/sippeers/{peer}/movetns", move, xml="SipPeerTelephoneNumbers"
    ),
]
