"""Who gets a number's calls: voice applications and locations (XML), packages and their activation (JSON)."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree as ET

from anycarrier_bandwidth.sandbox.account import Account, Application, Login, Order, stamp
from anycarrier_bandwidth.sandbox.rest import NUMBERS, UNIVERSAL, Operation, Refusal, Reply, Rest, node, text_of

_PLAIN = (
    "ServiceType", "AppName", "CallInitiatedCallbackUrl", "CallInitiatedMethod", "CallStatusCallbackUrl",
    "CallStatusMethod", "CallInitiatedFallbackUrl", "CallInitiatedFallbackMethod", "CallbackTimeout",
)  # fmt: skip
_LOGINS = {"CallbackCreds": "login", "CallInitiatedFallbackCreds": "fallback_login"}
SERVICES = ("INBOUND", "OUTBOUND_NATIONAL", "OUTBOUND_INTERNATIONAL")


def element(application: Application) -> ET.Element:
    """The application as REST shows it: users, never passwords."""
    logins = [node(name, {"UserId": login.user})
              for name, attribute in _LOGINS.items() if (login := getattr(application, attribute)).user]  # fmt: skip
    return node("Application", {"ApplicationId": application.id, **application.fields}, *logins)


def _single(application: Application) -> Reply:
    return Reply(200, node("ApplicationProvisioningResponse", {}, element(application)))


def _application(rest: Rest) -> Application:
    found = rest.account.applications.get(rest.path["application"])
    if found is None:
        why = f"Application with id '{rest.path['application'][:60]}' not found"
        raise Refusal(404, why, code="13629", shape="ResponseStatus")
    return found


def _apply(application: Application, root: ET.Element) -> None:
    for child in root:
        if child.tag in _LOGINS:
            setattr(application, _LOGINS[child.tag], Login(text_of(child, "UserId"), text_of(child, "Password")))
        elif child.tag in _PLAIN:
            value = (child.text or "").strip()
            if child.tag == "CallStatusCallbackUrl" and value == "remove":
                application.fields.pop(child.tag, None)
            elif child.tag.endswith("Url") and not value.startswith(("http://", "https://")):
                raise Refusal(400, f"{child.tag} is not a URL", code="12501", shape="ResponseStatus")
            else:
                application.fields[child.tag] = value
        elif child.tag != "ApplicationId":
            raise Refusal(400, f"unknown element {child.tag[:40]}", code="12500", shape="ResponseStatus")


async def list_applications(rest: Rest) -> Reply:
    listed = node("ApplicationList", {}, *map(element, rest.account.applications.values()))
    return Reply(200, node("ApplicationProvisioningResponse", {}, listed))


async def create(rest: Rest) -> Reply:
    if text_of(rest.body, "ServiceType") != "Voice-V2" or not text_of(rest.body, "AppName"):
        raise Refusal(400, "ServiceType Voice-V2 and AppName are required", code="12502", shape="ResponseStatus")
    made = Application(str(uuid4()))
    _apply(made, rest.body)
    rest.account.applications[made.id] = made
    reply = _single(made)
    return Reply(201, reply.body)


async def fetch(rest: Rest) -> Reply:
    return _single(_application(rest))


async def replace(rest: Rest) -> Reply:
    """PUT replaces the whole: what is left out is gone, the login too."""
    application = _application(rest)
    made = Application(application.id)
    _apply(made, rest.body)
    rest.account.applications[made.id] = made
    return _single(made)


async def patch(rest: Rest) -> Reply:
    application = _application(rest)
    _apply(application, rest.body)
    return _single(application)


async def delete(rest: Rest) -> Reply:
    del rest.account.applications[_application(rest).id]
    return Reply(200)


# --- locations ------------------------------------------------------------------------------------------------------


def _peer(rest: Rest) -> tuple[str, str]:
    place = rest.path["site"], rest.path["peer"]
    if place not in rest.account.peers:
        raise Refusal(404, "The location does not exist", code="13501", shape="ResponseStatus")
    return place


def _settings(application: str | None) -> Reply:
    told = node("SipPeerOriginationSettings", {"VoiceProtocol": "HTTP" if application else "SIP"})
    if application:
        told.append(node("HttpSettings", {"HttpVoiceV2AppId": application}))
    return Reply(200, node("SipPeerOriginationSettingsResponse", {}, told))


async def fetch_settings(rest: Rest) -> Reply:
    return _settings(rest.account.peers[_peer(rest)])


async def change_settings(rest: Rest) -> Reply:
    place, chosen = _peer(rest), text_of(rest.body, "HttpSettings/HttpVoiceV2AppId")
    if text_of(rest.body, "VoiceProtocol") == "HTTP" and chosen not in rest.account.applications:
        raise Refusal(400, f"Application with id '{chosen[:60]}' not found", code="13629", shape="ResponseStatus")
    rest.account.peers[place] = chosen if text_of(rest.body, "VoiceProtocol") == "HTTP" else None
    return Reply(200)


# --- voice configuration packages and activation --------------------------------------------------------------------


def _package(rest: Rest) -> str:
    if rest.path["package"] not in rest.account.packages:
        raise Refusal(404, "The voice configuration package does not exist")
    return rest.path["package"]


async def assign(rest: Rest) -> Reply:
    """Put numbers into the package, out of any other."""
    package, numbers = _package(rest), rest.body.get("phoneNumbers") or []
    if rest.body.get("action") != "ADD":
        raise Refusal(400, "Invalid action: this sandbox knows ADD")
    _all_held(rest.account, numbers)
    for number in numbers:
        rest.account.numbers[number].package = package
    return Reply(200)


def _all_held(account: Account, numbers: list[str]) -> None:
    if not numbers or any(number not in account.numbers for number in numbers):
        raise Refusal(400, "Invalid phoneNumbers: they are not on the account")


async def voice_settings(rest: Rest) -> Reply:
    """The numbers that have voice settings, in pages by cursor."""
    numbers = [
        number for number in rest.account.numbers.values()
        if number.package is not None and rest.get("voiceConfigurationPackageId") in ("", number.package)
    ]  # fmt: skip
    limit, start = rest.number("limit", 100, 1000), rest.get("afterCursor")
    begin = int(start) if start.isdigit() and len(start) < 9 else 0
    rows = [
        {
            "phoneNumber": number.number, "voiceConfigurationPackageId": number.package,
            "inboundActivated": "INBOUND" in number.services,
            "outboundNationalActivated": "OUTBOUND_NATIONAL" in number.services,
            "outboundInternationalActivated": "OUTBOUND_INTERNATIONAL" in number.services,
        }
        for number in numbers[begin : begin + limit]
    ]  # fmt: skip
    more = {"afterCursor": str(begin + limit)} if begin + limit < len(numbers) else {}
    return Reply(200, {"data": rows, "page": more})


async def activate(rest: Rest) -> Reply:
    action, numbers = rest.body.get("action"), rest.body.get("phoneNumbers") or []
    services = rest.body.get("services") or {}
    voice = services.get("voice")
    if action not in ("ACTIVATE", "DEACTIVATE"):
        raise Refusal(400, "Invalid action: must be ACTIVATE or DEACTIVATE")
    known = isinstance(voice, list) and voice and all(each in SERVICES for each in voice)
    if not known or set(services) != {"voice"}:
        raise Refusal(400, "Invalid services: this sandbox knows voice only")
    _all_held(rest.account, numbers)
    made = Order(tuple(numbers), rest.body.get("customerOrderId") or "")
    rest.account.activations[made.id] = made
    rest.sandbox.start(_done(rest, made, str(action), set(voice or ())))
    return Reply(201, _activation(made))


async def _done(rest: Rest, made: Order, action: str, services: set[str]) -> None:
    made.status = "PROCESSING"
    await asyncio.sleep(rest.sandbox.order_seconds)
    for number in made.numbers:
        if (held := rest.account.numbers.get(number)) is not None:
            held.services = held.services | services if action == "ACTIVATE" else held.services - services
    made.status = "COMPLETE"


def _activation(made: Order) -> dict[str, Any]:
    told = {"orderId": made.id, "orderStatus": made.status, "customerOrderId": made.customer_id or None}
    return {"data": {**told, "createdDateTime": stamp(made.created), "phoneNumbers": list(made.numbers)}}


async def fetch_activation(rest: Rest) -> Reply:
    if (made := rest.account.activations.get(rest.path["order"])) is None:
        raise Refusal(404, "The order does not exist")
    return Reply(200, _activation(made))


_APPLICATIONS = NUMBERS + "/applications"
_SETTINGS = NUMBERS + "/sites/{site}/sippeers/{peer}/products/origination/settings"
OPERATIONS = [
    Operation("GET", _APPLICATIONS, list_applications),
    Operation("POST", _APPLICATIONS, create, xml="Application"),
    Operation("GET", _APPLICATIONS + "/{application}", fetch),
    Operation("PUT", _APPLICATIONS + "/{application}", replace, xml="Application"),
    Operation("PATCH", _APPLICATIONS + "/{application}", patch, xml="Application"),
    Operation("DELETE", _APPLICATIONS + "/{application}", delete),
    Operation("GET", _SETTINGS, fetch_settings),
    Operation("PUT", _SETTINGS, change_settings, xml="SipPeerOriginationSettings"),
    Operation("GET", UNIVERSAL + "/phoneNumbers/voice", voice_settings),
    Operation(
        "POST", UNIVERSAL + "/voiceConfigurationPackages/{package}/phoneNumbers/bulk", assign,
        takes={"action": "text", "phoneNumbers": "list"},
    ),
    Operation(
        "POST", NUMBERS + "/serviceActivation", activate,
        takes={"action": "text", "phoneNumbers": "list", "services": "object", "customerOrderId": "text"},
    ),
    Operation("GET", NUMBERS + "/serviceActivation/{order}", fetch_activation),
]  # fmt: skip
