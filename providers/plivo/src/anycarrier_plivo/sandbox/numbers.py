"""Numbers for sale and held, and the applications they point at."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anycarrier.testing.sandbox_numbers import PENDING_NUMBER, NumberForSale
from anycarrier_plivo.sandbox.rest import Refused, not_found, page

if TYPE_CHECKING:
    from anycarrier_plivo.sandbox.app import Account, PlivoSandbox

TYPES = {"local": "local", "fixed": "local", "tollfree": "toll_free"}
URLS = "answer_url hangup_url fallback_answer_url message_url".split()
METHODS = "answer_method hangup_method fallback_method message_method".split()
SEARCH = "country_iso type pattern services region city limit offset"
FLAGS = ["default_number_app", "default_endpoint_app", "log_incoming_messages"]
APPLICATION = " ".join([*URLS, *METHODS, "app_name", *FLAGS])


@dataclass
class Application:
    account: Account
    name: str
    id: str = field(default_factory=lambda: str(random.randrange(10**19, 10**20)))  # noqa: S311 an id
    settings: dict[str, str] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        return {
            "app_id": self.id,
            "app_name": self.name,
            **dict.fromkeys(URLS, ""),
            **dict.fromkeys(METHODS, "POST"),
            **self.settings,
            "default_app": False,
            "default_endpoint_app": False,
            "enabled": True,
            "public_uri": False,
            "resource_uri": f"/v1/Account/{self.account.id}/Application/{self.id}/",
            "sip_uri": f"sip:{self.id}@app.plivo.com",
            "sub_account": None,
        }


class Numbers:
    """The part of the REST API about numbers."""

    def __init__(self, sandbox: PlivoSandbox) -> None:
        self.sandbox = sandbox
        self.applications: dict[str, Application] = {}
        self.held: dict[str, str] = {}
        """Number, with ``+``, to the id of its application; empty for none."""
        self.coming: dict[str, float] = {}
        """Numbers whose order is pending, and the loop's time at which the account has them."""
        self.table = [
            ("GET", "PhoneNumber/", self.search, SEARCH),
            ("POST", "PhoneNumber/{number}/", self.buy, "app_id verification_info cnam_lookup ha_enable"),
            ("GET", "Number/", self.list, "limit offset number_startswith type services alias"),
            ("GET", "Number/{number}/", self.get, ""),
            ("POST", "Number/{number}/", self.change, "app_id"),
            ("DELETE", "Number/{number}/", self.release, ""),
            ("GET", "Application/", self.applications_list, "limit offset app_name subaccount"),
            ("POST", "Application/", self.create, APPLICATION),
            ("GET", "Application/{app_id}/", self.application, ""),
            ("POST", "Application/{app_id}/", self.update, APPLICATION),
            ("DELETE", "Application/{app_id}/", self.delete, "cascade new_endpoint_application"),
        ]

    def application_of(self, number: str) -> Application | None:
        return self.applications.get(self.held.get(number, ""))

    async def search(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        kind = TYPES.get(asked.get("type", "local"))
        pattern = asked.get("pattern", "")
        offers = self.sandbox.inventory.search(
            country=asked["country_iso"],
            type=kind or "none",
            region=asked.get("region"),
            locality=asked.get("city"),
            features=asked["services"].split(",") if asked.get("services") else (),
        )
        found = [_offer(one, account) for one in offers if one.number[2:].startswith(pattern)]
        return page(asked, found, f"/v1/Account/{account.id}/PhoneNumber/")

    async def buy(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        number = f"+{path['number']}"
        if not self.sandbox.inventory.sell(number):
            raise Refused(404, "number not found in inventory")
        status = "fulfilled"
        if number == PENDING_NUMBER:
            status = "pending"
            self.coming[number] = self.sandbox.clock() + self.sandbox.pending_for
        else:
            self.held[number] = self._known(asked.get("app_id"))
        bought = {"number": path["number"], "status": "Success" if status == "fulfilled" else "pending"}
        return 201, {"message": "created", "status": status, "numbers": [bought]}

    def _known(self, app_id: Any) -> str:
        if app_id and str(app_id) not in self.applications:
            raise Refused(400, f"app_id {app_id} is no application of this account")
        return str(app_id or "")

    def _number(self, path: dict[str, str]) -> str:
        number = f"+{path['number']}"
        if self.coming.get(number, float("inf")) <= self.sandbox.clock():
            del self.coming[number]
            self.held[number] = ""
        if number not in self.held:
            raise not_found()
        return number

    async def list(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        starts = asked.get("number_startswith", "")
        found = [self._told(account, number) for number in self.held if number[1:].startswith(starts)]
        return page(asked, found, f"/v1/Account/{account.id}/Number/")

    async def get(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        return 200, self._told(account, self._number(path))

    async def change(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        """How a number is detached is not documented: an empty ``app_id`` is refused."""
        if not asked.get("app_id"):
            raise Refused(400, "app_id is empty: not simulated by this sandbox")
        self.held[self._number(path)] = self._known(asked["app_id"])
        return 202, {"message": "changed"}

    async def release(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        number = self._number(path)
        del self.held[number]
        self.sandbox.inventory.take_back(number)
        return 204, None

    async def applications_list(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        begins = asked.get("app_name", "")
        found = [one.told() for one in self.applications.values() if one.name.startswith(begins)]
        return page(asked, found, f"/v1/Account/{account.id}/Application/")

    async def create(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        if any(one.name == asked["app_name"] for one in self.applications.values()):
            raise Refused(400, "app_name exists already")
        made = Application(account, asked["app_name"], settings=_settings(asked))
        self.applications[made.id] = made
        return 201, {"message": "created", "app_id": made.id}

    def _application(self, path: dict[str, str]) -> Application:
        if (found := self.applications.get(path["app_id"])) is None:
            raise not_found()
        return found

    async def application(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        return 200, self._application(path).told()

    async def update(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        self._application(path).settings.update(_settings(asked))
        return 202, {"message": "changed"}

    async def delete(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        gone = self._application(path)
        del self.applications[gone.id]
        self.held = {number: "" if app_id == gone.id else app_id for number, app_id in self.held.items()}
        return 204, None

    def _told(self, account: Account, number: str) -> dict[str, Any]:
        application = self.application_of(number)
        return {
            "added_on": "2026-02-14",
            "active": True,
            "alias": None,
            "application": application.told()["resource_uri"] if application else None,
            "carrier": "Plivo",
            "city": None,
            "compliance_application_id": None,
            "compliance_status": None,
            "country": "United States",
            "monthly_rental_rate": "0.80000",
            "number": number[1:],
            "number_type": "local",
            "region": "California, UNITED STATES",
            "renewal_date": "2026-03-14",
            "resource_uri": f"/v1/Account/{account.id}/Number/{number[1:]}/",
            "mms_enabled": False,
            "sms_enabled": True,
            "sub_account": None,
            "voice_enabled": True,
            "voice_rate": "0.00850",
        }


def _settings(asked: Any) -> dict[str, str]:
    return {name: str(asked[name]) for name in (*URLS, *METHODS) if asked.get(name)}


def _offer(one: NumberForSale, account: Account) -> dict[str, Any]:
    return {
        "city": one.locality,
        "country": "UNITED STATES" if one.country == "US" else "CANADA",
        "lata": None,
        "monthly_rental_rate": f"{float(one.monthly_cost):.5f}",
        "number": one.number[1:],
        "prefix": one.area_code,
        "prerequisites": [],
        "rate_center": None,
        "region": one.region,
        "resource_uri": f"/v1/Account/{account.id}/PhoneNumber/{one.number[1:]}/",
        "restriction": None,
        "restriction_text": None,
        "setup_rate": f"{float(one.upfront_cost):.5f}",
        "type": {"toll_free": "tollfree"}.get(one.type, "fixed"),
        "voice_rate": "0.00850",
        **{f"{feature}_enabled": feature in one.features for feature in ("voice", "sms", "mms")},
    }
