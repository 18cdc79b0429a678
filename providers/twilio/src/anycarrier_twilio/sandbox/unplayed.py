"""What the carrier documents and the sandbox does not play: named when it is asked for, with the carrier's 404.

As the OpenAPI document lists it. Parameters that are not acted on stand with their operations, as ``unplayed``.
"""

from __future__ import annotations

from typing import NoReturn

from anycarrier_twilio.sandbox.rest import BASE, Operation, Rest, RestError

_PATHS = {
    "/AvailablePhoneNumbers": "GET",
    "/AvailablePhoneNumbers/{CountryCode}": "GET",
    "/Applications": "GET POST",
    "/Applications/{Sid}": "GET POST DELETE",
    "/Balance": "GET",
    "/Calls/{CallSid}/Events": "GET",
    "/Calls/{CallSid}/Notifications": "GET",
    "/Calls/{CallSid}/Notifications/{Sid}": "GET",
    "/Calls/{CallSid}/Recordings/{Sid}": "DELETE",
    "/Calls/{CallSid}/Streams": "POST",
    "/Calls/{CallSid}/Streams/{Sid}": "POST",
    "/Conferences": "GET",
    "/Conferences/{Sid}": "GET POST",
    "/Conferences/{Sid}/Participants": "GET POST",
    "/Conferences/{Sid}/Participants/{CallSid}": "GET POST DELETE",
    "/OutgoingCallerIds": "GET POST",
    "/OutgoingCallerIds/{Sid}": "GET POST DELETE",
}


async def _refuse(rest: Rest) -> NoReturn:
    raise RestError(404, 20404, f"The requested resource {rest.url} is not played by this sandbox")


OPERATIONS = [
    *(
        Operation(method, BASE + path, _refuse, None)
        for path, methods in _PATHS.items()
        for method in methods.split()
    ),
    Operation("POST", BASE, _refuse, None),
    Operation("GET", "/2010-04-01/Accounts", _refuse, None),
    Operation("POST", "/2010-04-01/Accounts", _refuse, None),
]
