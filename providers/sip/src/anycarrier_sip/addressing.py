"""Who calls and who is called: numbers and addresses in the headers of an INVITE, read and written. Pure.

A number on the wire may be E.164, or digits as they are dialled in some country (``004930...``, ``0114930...``,
``030...``): :func:`number_of` makes those E.164 by the credential's country, and leaves alone what would be a guess.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from anycarrier.numbers import E164
from anycarrier_sip.message import NameAddr, Request, SipError, Uri
from anycarrier_sip.presets import NumberForm, Preset

ANONYMOUS = "anonymous"
"""What stands for a caller who withholds his number."""

LONGEST = 256
"""Characters of a name or address that a stranger may put into our records."""

_WITHHELD = frozenset({"anonymous", "restricted", "unavailable", "unknown", "private", "withheld"})
_SEPARATORS = re.compile(r"[-.()\s]")  # RFC 3966, 3: visual-separator; some send spaces
_VERSTAT = re.compile(r"TN-Validation-Passed(?:-([ABC]))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. ``number`` is E.164 where there is one, else the ``sip:`` address, else ``"anonymous"``.

    ``verified`` is the attestation (A, B or C) of a number that the peer has validated (``verstat``, ATIS-1000074).
    """

    number: str
    display: str = ""
    anonymous: bool = False
    verified: str | None = None


@dataclass(frozen=True, slots=True)
class Called:
    """Who is called: ``to`` is E.164, or what was dialled as it came. ``forwarded_from`` sent the call on to us."""

    to: str
    forwarded_from: str | None = None


def caller(request: Request, *, trusted: bool, country: str | None) -> Caller:
    """Who calls, by ``P-Asserted-Identity`` (RFC 3325), ``Remote-Party-ID`` or From, the first there is.

    The former two are claims that only a peer may make: pass ``trusted`` False for anybody else. A caller who asks for
    privacy (RFC 3323), by a header or in From, is anonymous, whatever else the peer tells of him.
    """
    from_ = request.from_
    asserted = _addresses(request, "P-Asserted-Identity") if trusted else []
    told = _addresses(request, "Remote-Party-ID") if trusted else []
    private = {word.strip().lower() for value in request.headers.values("Privacy") for word in value.split(";")}
    if (
        private & {"id", "user", "header"}
        or any((one.parameters.get("privacy") or "off").lower() != "off" for one in told)
        or _is_withheld(from_)
    ):
        return Caller(ANONYMOUS, anonymous=True)
    candidates = asserted or told or [from_]
    found = next((one for one in candidates if number_of(one.uri, country)), candidates[0])
    number = number_of(found.uri, country) or _address(found.uri)
    display = _printable(found.display or from_.display)
    return Caller(number, display, verified=_attestation(request, found.uri) if trusted else None)


def called(
    request: Request,
    *,
    contact_user: str = "",
    country: str | None = None,
    numbers: Collection[str] = (),
) -> Called:
    """Who is called, and who sent the call on.

    That is the user of the Request-URI; where it is our own ``contact_user`` (or none), what
    ``P-Called-Party-ID`` (RFC 7315), To, ``Diversion`` (RFC 5806) or ``History-Info`` (RFC 7044) say. One of
    ``numbers``, the credential's own, is recognized without a plus sign or a country code, and preferred.
    """
    diverted = [one.uri for one in _addresses(request, "Diversion")]
    history = [one.uri for one in _addresses(request, "History-Info")]
    target = Uri.parse(request.uri)
    candidates = [target]
    if not target.user or (contact_user and _user(target) == contact_user):
        asked = [one.uri for one in _addresses(request, "P-Called-Party-ID")]
        candidates = [*asked, request.to.uri, *diverted, *reversed(history)]
        candidates = [uri for uri in candidates if uri.user and _user(uri) != contact_user] or [request.to.uri]
    read = [number_of(uri, country, numbers) for uri in candidates]
    known = [number for number in read if number]
    to = next((number for number in known if number in numbers), known[0] if known else None)
    before = [number_of(uri, country, numbers) or _user(uri) for uri in (*diverted[:1], *reversed(history))]
    to = to or _printable(_user(candidates[0]))
    return Called(to, next((_printable(one) for one in before if one and one not in (to, contact_user)), None))


def number_of(uri: Uri, country: str | None, numbers: Collection[str] = ()) -> str | None:
    """The number in a ``tel:`` or ``sip:`` URI as E.164, or None: its user is a name, an extension, or unclear."""
    if uri.scheme not in ("tel", "sip", "sips") or not uri.user:
        return None
    digits, *parameters = uri.user.split(";")
    context = uri.parameters.get("phone-context") or next(
        (value for name, _, value in (one.partition("=") for one in parameters) if name.lower() == "phone-context"), ""
    )
    digits = _SEPARATORS.sub("", digits)
    if context.startswith("+") and not digits.startswith("+"):  # RFC 3966, 5.1.5: local digits and what stands before
        digits = _SEPARATORS.sub("", context) + digits
    return to_e164(digits, country, numbers)


def to_e164(digits: str, country: str | None, numbers: Collection[str] = ()) -> str | None:
    """``digits`` as E.164, read as they are dialled in ``country``; None for what is no number or could be another.

    Without a country only a plus sign makes a number, or being one of ``numbers``. Digits without any prefix are a
    national number only where the country's plan writes it so.
    """
    if digits.startswith("+"):
        return digits if E164.fullmatch(digits) else None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        return None
    own = next((number for number in numbers if number == f"+{digits}"), None)
    if own or country is None:
        return own
    read = _read(digits, country)
    if read is None:
        national = f"+{_plan(country)[0]}{digits}"
        return national if national in numbers else None
    return read


@lru_cache(4096)
def _read(digits: str, country: str) -> str | None:
    import phonenumbers  # 30 ms of metadata: only when somebody asks
    from phonenumbers import CountryCodeSource, ValidationResult

    try:
        parsed = phonenumbers.parse(digits, country, keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(parsed) != ValidationResult.IS_POSSIBLE:
        return None  # too long, too short, or complete within its town only
    found = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if not E164.fullmatch(found):
        return None
    source, (code, prefix) = parsed.country_code_source, _plan(country)
    marked = bool(prefix) and digits.startswith(prefix)
    if source == CountryCodeSource.FROM_NUMBER_WITH_IDD or marked or code == "1":  # in North America, ten are one
        return found
    # Nothing stands before it. An extension, a number of the same town and a calling code look the same: it must be
    # a number of the plan, and the plan must write it so.
    plain = source == CountryCodeSource.FROM_NUMBER_WITHOUT_PLUS_SIGN or dialled(found, "country", country) == digits
    return found if plain and phonenumbers.is_valid_number(parsed) else None


@lru_cache(512)
def _plan(country: str) -> tuple[str, str]:
    """Calling code and trunk prefix, "" where there is none."""
    import phonenumbers

    plan = phonenumbers.PhoneMetadata.metadata_for_region(country)
    return str(phonenumbers.country_code_for_region(country)), (plan.national_prefix if plan else None) or ""


def dialled(number: str, form: NumberForm, country: str | None) -> str:
    """An E.164 number as the trunk wants it: ``+4930...``, ``4930...``, or as it is dialled in ``country``."""
    if form == "digits":
        return number[1:]
    if form == "e164" or country is None:
        return number
    import phonenumbers

    parsed = phonenumbers.parse(number)
    text = phonenumbers.format_out_of_country_calling_number(parsed, country)
    return ("+" if text.startswith("+") else "") + "".join(filter(str.isdigit, text))


def address_of(number: str, trunk: Preset, country: str | None, host: str) -> Uri:
    """The ``sip:`` address of an E.164 number at ``host``, for a Request-URI, From, Refer-To or Diversion."""
    port = trunk.port if host == trunk.host else None
    return Uri("sip", dialled(number, trunk.number_form, country), host, port)


def identity_headers(
    number: str, *, trunk: Preset, country: str | None, host: str, display: str = "", anonymous: bool = False
) -> list[tuple[str, str]]:
    """From (without a tag) and what else tells a callee who calls: our line's ``number`` at ``host``.

    ``anonymous`` withholds it from the callee (RFC 3323, 4.1); the carrier is told all the same.
    """
    shown = NameAddr(display, Uri("sip", dialled(number, trunk.number_form, country), host))
    from_ = NameAddr("Anonymous", Uri("sip", "anonymous", "anonymous.invalid")) if anonymous else shown
    headers = [("From", str(from_))]
    if trunk.identity == "pai" or (anonymous and trunk.identity == "from"):
        headers.append(("P-Asserted-Identity", str(shown)))
    elif trunk.identity == "rpid":
        party = {"party": "calling", "privacy": "full" if anonymous else "off", "screen": "yes"}
        headers.append(("Remote-Party-ID", str(NameAddr(shown.display, shown.uri, dict(party)))))
    if anonymous:
        headers.append(("Privacy", "id"))
    return headers


def _addresses(request: Request, name: str) -> list[NameAddr]:
    """The header's values that can be read: a peer's odd header is no reason to refuse a call."""
    found = []
    for value in request.headers.values(name):
        try:
            found.append(NameAddr.parse(value))
        except SipError:
            continue
    return found


def _is_withheld(address: NameAddr) -> bool:
    uri = address.uri
    return uri.host.endswith("anonymous.invalid") or (uri.user or "").lower() in _WITHHELD


def _user(uri: Uri) -> str:
    return (uri.user or "").partition(";")[0]


def _address(uri: Uri) -> str:
    """``sip:user@host``: parameters, ports and passwords are no part of who somebody is."""
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    if uri.scheme == "tel":
        return _printable(_user(uri))
    return _printable(f"sip:{_user(uri)}@{host}" if uri.user else f"sip:{host}")


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())[:LONGEST]


def _attestation(request: Request, uri: Uri) -> str | None:
    """A, B or C, when the peer says that it has validated the number.

    A passport in ``Identity`` (RFC 8224) is not checked here; it only tells the level of what the peer has validated.
    """
    words: Iterable[str] = [uri.parameters.get("verstat") or "", *(uri.user or "").split(";")]
    passed = next((match for word in words if (match := _VERSTAT.fullmatch(word.removeprefix("verstat=")))), None)
    if passed is None:
        return None
    if passed[1]:
        return passed[1].upper()
    indicated = (request.headers.get("P-Attestation-Indicator") or "").strip().upper()  # 3GPP TS 24.229
    return indicated if indicated in ("A", "B", "C") else _passport_level(request.headers.get("Identity") or "")


def _passport_level(identity: str) -> str | None:
    claims = identity.partition(";")[0].split(".")
    try:
        told = json.loads(base64.urlsafe_b64decode(claims[1] + "=" * (-len(claims[1]) % 4)))
        level = told["attest"]
    except (IndexError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return level if level in ("A", "B", "C") else None
