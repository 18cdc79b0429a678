"""Numbers hidden in SIP addresses: at a host that is allowed, a gateway would dial them."""

import pytest

from anycarrier import Policy
from anycarrier.errors import DestinationNotAllowed
from anycarrier.sip import SipAddress

US = "+14155550100"
HOST = "pbx.example.com"
DEAR = "+19005550100"

SPELT = [
    f"sip:{DEAR}@{HOST}", f"sips:{DEAR}@{HOST};user=phone", f"sip:{DEAR[1:]}@{HOST};USER=Phone",
    f"SIP:%2B1%39005550100@{HOST}", f"sip:+1-900-555.0100@{HOST}", f"sip:(+1)9005550100@{HOST}",
    f"sip:{DEAR}:secret@{HOST}", f"sip:{DEAR}99999999@{HOST}", f"sip:{DEAR}%3Bext=1@{HOST}", f"sip:{DEAR}%23@{HOST}",
    f"sip:%20{DEAR}@{HOST}",
]  # fmt: skip


@pytest.mark.parametrize("to", SPELT)
@pytest.mark.parametrize("allow", [["US", f"sip:{HOST}"], ["sip:*"], ["*", "sip:*"]])
def test_a_premium_number_is_refused_at_an_allowed_host_however_it_is_spelt(to: str, allow: list[str]) -> None:
    with pytest.raises(DestinationNotAllowed, match="premium-rate number"):
        Policy(allow=allow).check_destination(US, to)
    Policy(allow=[*allow, "+1900"]).check_destination(US, to)


@pytest.mark.parametrize(
    ("policy", "to", "why"),
    [
        ({}, "+19110000", "emergency"), ({}, "+881612345678", "premium"),
        ({"deny": ["+4930"]}, "+493012345678", "denied"), ({"deny": ["DE"]}, "+493012345678", "denied"),
    ],
)  # fmt: skip
def test_so_are_emergencies_satellites_and_what_is_denied(policy: dict[str, list[str]], to: str, why: str) -> None:
    with pytest.raises(DestinationNotAllowed, match=why):
        Policy(allow=["US", f"sip:{HOST}"], **policy).check_destination(US, f"sip:{to}@{HOST}")


@pytest.mark.parametrize("user", ["desk", "201", "9005550100", "+44", "+493012345678", "a+19005550100", "u1900"])
def test_any_other_user_of_an_allowed_host_may_be_called(user: str) -> None:
    Policy(allow=["US", f"sip:{HOST}"]).check_destination(US, f"sip:{user}@{HOST}")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (f"sip:{DEAR}@{HOST}", DEAR), (f"sip:{HOST};user=phone", None), (f"sip:201@{HOST};user=phone", None),
        (f"sip:+1900@{HOST}", None), (f"sip:{DEAR[1:]}@{HOST}", None), (f"sip:{DEAR[1:]}@{HOST};user=phone", DEAR),
    ],
)  # fmt: skip
def test_the_number_in_an_address(text: str, number: str | None) -> None:
    assert SipAddress.parse(text).number == number
