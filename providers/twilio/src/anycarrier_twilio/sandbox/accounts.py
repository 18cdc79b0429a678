"""The REST resource of accounts: reading one's own, which is how a credential is checked."""

from __future__ import annotations

from anycarrier_twilio.sandbox.rest import BASE, Operation, Reply, Rest
from anycarrier_twilio.sandbox.webhooks import API_VERSION, rfc2822


async def fetch(rest: Rest) -> Reply:
    account = rest.account
    path = f"/{API_VERSION}/Accounts/{account.sid}"
    links = {"calls": "Calls", "incoming_phone_numbers": "IncomingPhoneNumbers", "recordings": "Recordings"}
    body = {
        "auth_token": account.token,
        "date_created": rfc2822(account.created),
        "date_updated": rfc2822(account.created),
        "friendly_name": "Sandbox account",
        "owner_account_sid": account.sid,
        "sid": account.sid,
        "status": "active",
        "subresource_uris": {name: f"{path}/{file}.json" for name, file in links.items()},
        "type": "Full",
        "uri": f"{path}.json",
    }
    return Reply(200, body)


OPERATIONS = [Operation("GET", BASE, fetch)]
