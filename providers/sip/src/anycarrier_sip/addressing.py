"""Who calls and who is called: numbers and addresses in the headers of an INVITE, read and written. Pure.

A number may be E.164, or digits as they are dialled in some country (``004930...``, ``0114930...``, ``030...``):
:func:`number_of` makes those E.164 by the credential's country, and leaves alone what would be a guess.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from anycarrier.numbers import E164
from anycarrier_sip.message import NameAddr, Request, SipError, Uri
from anycarrier_sip.presets import NumberForm, Preset

ANONYMOUS = "anonymous"
"""What stands for a caller who withholds his number."""

LONGEST = 256
"""Characters of a name or address that a stranger may put into our records."""

_WITHHELD = frozenset({"anonymous", "restricted", "unavailable", "unknown", "private", "withheld"})
_VERSTAT = re.compile(r"(?i)(?:verstat=)?TN-Validation-Passed(?:-([ABC]))?")


class Caller(NamedTuple):
    """Who calls. ``number`` is E.164 where there is one, else the ``sip:`` address, else ``"anonymous"``.

    ``verified`` is the attestation (A, B or C) of a number that the peer has validated (``verstat``, ATIS-1000074).
    """

    number: str
    display: str = ""
    anonymous: bool = False
    verified: str | None = None


class Called(NamedTuple):
    """Who is called: ``to`` is E.164, or what was dialled as it came. ``forwarded_from`` sent the call on to us."""

    to: str
    forwarded_from: str | None = None


def caller(request: Request, *, trusted: bool, country: str | None) -> Caller:
    """Who calls, by ``P-Asserted-Identity`` (RFC 3325), ``Remote-Party-ID`` or From, the first there is.

    The former two are claims that only a peer may make: pass ``trusted`` False for anybody else. A caller who asks for
    privacy (RFC 3323), by a header or in From, is anonymous, whatever else the peer tells of him.
    """
    from_ = request.from_
    asserted, told = (_addresses(request, name) for name in ("P-Asserted-Identity", "Remote-Party-ID"))
    if not trusted:
        asserted = told = []
    private = {word.strip().lower() for value in request.headers.values("Privacy") for word in value.split(";")}
    private |= {"id" for one in told if (one.parameters.get("privacy") or "off").lower() != "off"}
    withheld = from_.uri.host.endswith("anonymous.invalid") or (from_.uri.user or "").lower() in _WITHHELD
    if withheld or private & {"id", "user", "header"}:
        return Caller(ANONYMOUS, anonymous=True)
    candidates = asserted or told or [from_]
    found = next((one for one in candidates if number_of(one.uri, country)), candidates[0])
    uri, user = found.uri, _user(found.uri)
    address = user if uri.scheme == "tel" else str(Uri("sip", user or None, uri.host))
    number = number_of(uri, country) or _printable(address)
    verified = _attestation(request, uri) if trusted else None
    return Caller(number, _printable(found.display or from_.display), verified=verified)


def called(
    request: Request, *, contact_user: str = "", country: str | None = None, numbers: Collection[str] = ()
) -> Called:
    """Who is called, and who sent the call on.

    That is the user of the Request-URI; where it is our own ``contact_user`` (or none), what
    ``P-Called-Party-ID`` (RFC 7315), To, ``Diversion`` (RFC 5806) or ``History-Info`` (RFC 7044) say. One of
    ``numbers``, the credential's own, is recognized without a plus sign or a country code, and preferred.
    """
    diverted, history, asked = (
        [one.uri for one in _addresses(request, name)] for name in ("Diversion", "History-Info", "P-Called-Party-ID")
    )
    history.reverse()
    candidates = [Uri.parse(request.uri)]
    if _user(candidates[0]) in ("", contact_user):
        others = [*asked, request.to.uri, *diverted, *history]
        candidates = [uri for uri in others if _user(uri) not in ("", contact_user)] or [request.to.uri]
    known = [number for uri in candidates if (number := number_of(uri, country, numbers))]
    to = next((number for number in known if number in numbers), (known or [_printable(_user(candidates[0]))])[0])
    before = [_printable(number_of(uri, country, numbers) or _user(uri)) for uri in (*diverted[:1], *history)]
    return Called(to, next((one for one in before if one not in ("", to, contact_user)), None))


def number_of(uri: Uri, country: str | None, numbers: Collection[str] = ()) -> str | None:
    """The number in a ``tel:`` or ``sip:`` URI as E.164, or None: its user is a name, an extension, or unclear."""
    digits, _, local = (uri.user or "").partition(";")
    within = re.search(r"(?i)(?:^|;)phone-context=([^;]*)", local)  # RFC 3966, 5.1.5: what stands before local digits
    context = uri.parameters.get("phone-context") or (within[1] if within else "")
    if context.startswith("+") and not digits.startswith("+"):
        digits = context + digits
    return to_e164(re.sub(r"[-.()\s]", "", digits), country, numbers)  # separators of RFC 3966, 3; some send spaces


def to_e164(digits: str, country: str | None, numbers: Collection[str] = ()) -> str | None:
    """``digits`` as E.164, read as they are dialled in ``country``; None for what is no number or could be another.

    Without a country only a plus sign makes a number, or being one of ``numbers``. Digits without any prefix are a
    national number only where the country's plan writes it so.
    """
    if digits.startswith("+"):
        return digits if E164.fullmatch(digits) else None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        return None
    if country is None or f"+{digits}" in numbers:
        return f"+{digits}" if f"+{digits}" in numbers else None
    national = f"+{_plan(country)[0]}{digits}"
    return _read(digits, country) or (national if national in numbers else None)


@lru_cache(4096)
def _read(digits: str, country: str) -> str | None:
    import phonenumbers  # 30 ms of metadata: only when somebody asks
    from phonenumbers import CountryCodeSource, ValidationResult

    try:
        parsed = phonenumbers.parse(digits, country, keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return None
    found = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if phonenumbers.is_possible_number_with_reason(parsed) != ValidationResult.IS_POSSIBLE or not E164.fullmatch(found):
        return None  # too long, too short, or complete within its town only
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
    if form != "country" or country is None:
        return number.removeprefix("+") if form == "digits" else number
    import phonenumbers

    text = phonenumbers.format_out_of_country_calling_number(phonenumbers.parse(number), country)
    return re.sub("[^0-9+]", "", text)


def address_of(number: str, trunk: Preset, country: str | None, host: str) -> Uri:
    """The ``sip:`` address of an E.164 number at ``host``, for a Request-URI, From, Refer-To or Diversion."""
    return Uri("sip", dialled(number, trunk.number_form, country), host, trunk.port if host == trunk.host else None)


def identity_headers(
    number: str, *, trunk: Preset, country: str | None, host: str, display: str = "", anonymous: bool = False
) -> list[tuple[str, str]]:
    """From (without a tag) and what else tells a callee who calls: our line's ``number`` at ``host``.

    ``anonymous`` withholds it from the callee (RFC 3323, 4.1); the carrier is told all the same.
    """
    shown = NameAddr(display, Uri("sip", dialled(number, trunk.number_form, country), host))
    headers = [("From", '"Anonymous" <sip:anonymous@anonymous.invalid>' if anonymous else str(shown))]
    if trunk.identity == "pai" or (anonymous and trunk.identity == "from"):
        headers.append(("P-Asserted-Identity", str(shown)))
    elif trunk.identity == "rpid":
        privacy = "full" if anonymous else "off"
        headers.append(("Remote-Party-ID", f"{shown};party=calling;privacy={privacy};screen=yes"))
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


def _user(uri: Uri) -> str:
    return (uri.user or "").partition(";")[0]


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())[:LONGEST]


def _attestation(request: Request, uri: Uri) -> str | None:
    """A, B or C, when the peer says that it has validated the number.

    A passport in ``Identity`` (RFC 8224) is not checked here; it only tells the level of what the peer has validated.
    """
    words = [uri.parameters.get("verstat") or "", *(uri.user or "").split(";")]
    passed = next(filter(None, map(_VERSTAT.fullmatch, words)), None)
    if passed is None:
        return None
    level = (passed[1] or request.headers.get("P-Attestation-Indicator") or "").strip().upper()  # 3GPP TS 24.229
    if level not in ("A", "B", "C"):
        claims = ((request.headers.get("Identity") or "").partition(";")[0] + "..").split(".")[1]
        try:
            level = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["attest"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
    return level if level in ("A", "B", "C") else None
