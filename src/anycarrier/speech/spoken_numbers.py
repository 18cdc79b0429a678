"""What is read in the same way in every language: telephone numbers and codes, digit by digit.

Each entry of :data:`ADDRESSES` and :data:`NUMBERS` is a pattern and its reading; those that give the match back keep
dates and amounts from being taken for telephone numbers. :mod:`anycarrier.speech.spoken_text` applies them in one pass.
A pattern looks at a bounded stretch of text from each place, so that no text takes long.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import phonenumbers

Match = re.Match[str]


THOUSANDS = re.compile(r"[1-9]\d{0,2}(?: 000)+|[1-9]\d?(?: \d{3}){2,}")
"""1 000 000, which is no telephone number."""


def telephone(text: str) -> str:
    """Digit by digit, with a comma, which is a pause, between groups. Fewer than six digits are a number."""
    digits = re.sub(r"\D", "", text)
    groups = re.findall(r"\d+", text)
    single = len(groups) == 1
    zeros = any(group[0] == "0" != group for group in groups[text[0] != "0" :])  # 007 194, but no 1 050 000
    if len(digits) < 6 or (not single and len(digits) < 7 and "+" not in text and not zeros):
        return text
    if THOUSANDS.fullmatch(text):
        return text
    if single and text.startswith("+"):
        groups = _international(text)
    pauses = ", ".join(" ".join(part) for group in groups for part in _parts(group, len(groups) == 1))
    return ("+ " if "+" in text else "") + pauses


def _international(text: str) -> list[str]:
    """The groups in which the number's country writes it."""
    try:
        number = phonenumbers.parse(text)
        written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    except phonenumbers.NumberParseException:
        return re.findall(r"\d+", text)
    groups = re.findall(r"\d+", written)
    return groups if "".join(groups) == text.lstrip("+ ") else re.findall(r"\d+", text)


def _parts(group: str, alone: bool) -> list[str]:
    """A long run of digits in parts of three or four, as far as possible; six are a code and stay together."""
    if len(group) <= (6 if alone else 4):
        return [group]
    size = 4 if len(group) % 4 == 0 else 3
    cuts = list(range(0, len(group), size))
    if len(group) - cuts[-1] == 1:
        cuts.pop()
    return [group[start:end] for start, end in zip(cuts, [*cuts[1:], None], strict=True)]


def spelled(code: str) -> str:
    """``AB12-C``: ``A, B 1 2, C``. A comma keeps the letter A from being read as the article, and marks a hyphen."""
    groups = [re.sub(r"\bA (?=\S)", "A, ", " ".join(group)) for group in code.split("-") if group]
    return ", ".join(groups)


def url_parts(url: str) -> tuple[str, str]:
    """Host and path of a URL, without scheme, user, port, query and what else nobody reads aloud."""
    rest = re.sub(r"^(?i:https?://)?(?i:www\.)?", "", url)
    host, _, path = rest.partition("/")
    return re.sub(r"^[^@]*@|:\d+$", "", re.split("[?#]", host)[0]), re.split("[?#]", path)[0].strip("/")


_DOMAIN = r"(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,5}"
_TLD = r"(?:com|org|net|edu|gov|io|co|uk|de|fr|info|biz|eu|ca|au|ch|nl|es|tv|ai|app|dev|test|example)\b(?!\.\w)"
_IN_URL = r"[^\s<>\"')\]]"
_URL_END = r"(?<![.,;:!?])"
_GAP = r"(?:[ .\-/]|\) ?|\)-| \(| - | / )?"
_LAST = r"(?![\w-]|[.,/]\d)"

Reading = Callable[[Match], str]
"""Words for what a pattern matched."""

ADDRESSES: dict[str, tuple[str, Reading]] = {
    "email": (rf"(?<![\w.+@-])[\w.+-]{{1,64}}@{_DOMAIN}[A-Za-z]{{2,24}}\b", lambda match: match[0]),
    "url": (
        rf"(?i:https?://|(?<![\w.@-])www\.){_IN_URL}{{1,2000}}{_URL_END}"
        rf"|(?<![\w.@/-]){_DOMAIN}{_TLD}(?:/{_IN_URL}{{0,500}}{_URL_END})?",
        lambda match: url_parts(match[0])[0],
    ),
}
NUMBERS: dict[str, tuple[str, Reading]] = {
    "date": (
        rf"(?<![\w/.-])(?:\d{{4}}-\d\d-\d\d|\d{{1,2}}[./-]\d{{1,2}}[./-](?:\d{{4}}|\d\d)){_LAST}",
        lambda match: match[0],
    ),
    "years": (rf"(?<![\w/.-])(?:19|20)\d\d ?[-–] ?(?:19|20)\d\d{_LAST}", lambda match: match[0]),
    "figure": (
        r"(?<![\w.,/+-])(?:\d{1,3}(?:,\d{3}){1,5}(?:\.\d{1,15})?|\d{1,3}(?:\.\d{3}){1,5}(?:,\d{1,15})?|\d{1,15}[.,]\d{1,15})"
        + _LAST,
        lambda match: match[0],
    ),
    "telephone": (rf"(?<!\w)(?:\+ ?)?\(?\d(?:{_GAP}\d){{5,}}(?![^\Wx]|x(?!\d))", lambda match: telephone(match[0])),
    "letters": (r"(?<![\w-])[A-Z](?:-[A-Z]){2,30}(?![\w-])", lambda match: ", ".join(match[0].split("-"))),
    "code": (
        r"(?<![\w-])(?=[A-Z0-9-]{0,30}[A-Z])(?=[A-Z0-9-]{0,30}\d)[A-Z0-9]{1,30}(?:-[A-Z0-9]{1,30}){0,4}(?![\w-])",
        lambda match: match[0] if re.search("[A-Z]{4}", match[0]) else spelled(match[0]),
    ),
}
