"""Run by the oldest ``inkbox`` that can still be installed, in a process of its own: every phone operation it has.

Reads the address, the key, the agent's socket and a receiver from the environment; prints what it saw as JSON.
"""

from __future__ import annotations

import json
import os
import time
from importlib.metadata import version
from typing import Any

from inkbox import Inkbox
from inkbox.exceptions import DuplicateContactRuleError, InkboxAPIError

seen: dict[str, Any] = {"version": version("inkbox")}
inkbox = Inkbox(api_key=os.environ["DESK_KEY"], base_url=os.environ["DESK_URL"])
callee, caller = "+12125550142", "+12125550123"


def status_of(work: Any, *args: Any, **kwargs: Any) -> int:
    """The status of a refusal, 0 when there was none."""
    try:
        work(*args, **kwargs)
    except InkboxAPIError as error:
        return error.status_code
    return 0


seen["whoami"] = inkbox.whoami().auth_subtype
identity = inkbox.create_identity("old-bot", display_name="Old")
number = inkbox.phone_numbers.provision(agent_handle="old-bot", type="local")
seen["number"] = [number.status, number.incoming_call_action, str(number.agent_identity_id) == str(identity.id)]
seen["one number each"] = status_of(inkbox.phone_numbers.provision, agent_handle="old-bot", type="local")
number = inkbox.phone_numbers.update(
    number.id, incoming_call_action="auto_accept", client_websocket_url=os.environ["DESK_AGENT"]
)
seen["updated"] = [number.incoming_call_action, inkbox.phone_numbers.get(number.id).client_websocket_url is not None]
seen["listed"] = [str(one.id) == str(number.id) for one in inkbox.phone_numbers.list()]

identity = inkbox.get_identity("old-bot")
call = identity.place_call(to_number=callee)
seen["placed"] = [call.status, call.direction, call.rate_limit.calls_used]
until = time.monotonic() + 60
while call.status not in ("completed", "failed", "canceled") and time.monotonic() < until:
    time.sleep(0.05)
    call = inkbox.calls.get(number.id, call.id)
seen["ended"] = [call.status, call.hangup_reason]
seen["calls"] = [str(one.id) == str(call.id) for one in identity.list_calls()]
seen["by number"] = len(inkbox.calls.list(number.id, limit=10, is_blocked=False))
seen["said"] = [[one.seq, one.party, one.text] for one in identity.list_transcripts(str(call.id))]
seen["found"] = [one.text for one in inkbox.phone_numbers.search_transcripts(number.id, q="table", party="remote")]
seen["not from here"] = status_of(inkbox.calls.place, from_number="+12125550199", to_number=callee)

rules = inkbox.phone_contact_rules
rule = rules.create(number.id, action="block", match_target=callee)
try:
    rules.create(number.id, action="block", match_target=callee)
except DuplicateContactRuleError as duplicate:
    seen["duplicate"] = str(duplicate.existing_rule_id) == str(rule.id)
seen["blocked"] = status_of(identity.place_call, to_number=callee)
seen["paused"] = rules.update(number.id, rule.id, status="paused").status
seen["passes again"] = status_of(identity.place_call, to_number=callee)
seen["rules"] = [len(rules.list(number.id)), len(rules.list_all(phone_number_id=number.id)), len(rules.list_all())]
rules.delete(number.id, rule.id)
seen["rule gone"] = status_of(rules.get, number.id, rule.id)

seen["organization key"] = status_of(inkbox.create_signing_key)
subscriptions = inkbox.webhooks.subscriptions
made = subscriptions.create(url=os.environ["DESK_HOOK"], event_types=["text.received"], phone_number_id=number.id)
seen["subscriptions"] = [str(one.id) == str(made.id) for one in subscriptions.list(phone_number_id=number.id)]
subscriptions.delete(made.id)

seen["live"] = []
for one in identity.list_calls():
    if one.status not in ("completed", "failed", "canceled"):
        seen["live"].append(str(one.id))
print(json.dumps(seen))
