"""How English reads what is written in figures and signs: amounts, dates, times, addresses, abbreviations.

:func:`english_readings` has a pattern for each, and its words; :mod:`anycarrier.speech.spoken_text` uses them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from functools import partial
from typing import Any

from anycarrier.speech.spoken_numbers import ADDRESSES, NUMBERS, THOUSANDS, Match, Reading, telephone, url_parts

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ("", "thousand", "million", "billion", "trillion")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
MONTHS = ("January February March April May June July August September October November December").split()
_MONTH = {name[:3].lower(): name for name in MONTHS}
_DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thur": "Thursday",
    "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip

_SIGNS = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "sen", "sen"),
}
_CODES = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}
_LARGE = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion"}

_UNITS = {
    "km": "kilometer", "cm": "centimeter", "mm": "millimeter", "mi": "mile", "ft": ("foot", "feet"),
    "yd": "yard", "kg": "kilogram", "mg": "milligram", "lb": "pound", "lbs": "pound", "oz": "ounce",
    "ml": "milliliter", "km/h": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"), "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte", "tb": "terabyte",
    "kbps": ("kilobit per second", "kilobits per second"), "mbps": ("megabit per second", "megabits per second"),
    "hz": ("hertz", "hertz"), "khz": ("kilohertz", "kilohertz"), "mhz": ("megahertz", "megahertz"),
    "ghz": ("gigahertz", "gigahertz"), "kw": "kilowatt", "kwh": "kilowatt hour",
    "sec": "second", "secs": "second", "min": "minute", "mins": "minute", "hr": "hour", "hrs": "hour",
    "ms": "millisecond", "sq ft": ("square foot", "square feet"), "°c": ("degree Celsius", "degrees Celsius"),
    "°f": ("degree Fahrenheit", "degrees Fahrenheit"), "°": "degree", "%": ("percent", "percent"),
    "m²": "square meter", "m³": "cubic meter", "km²": "square kilometer", "cm²": "square centimeter",
    "cm³": "cubic centimeter", "ft²": ("square foot", "square feet"),
}  # fmt: skip
_LETTERS = {"m": "meter", "g": "gram", "l": "liter", "L": "liter", "h": "hour", "V": "volt", "W": "watt"}
"""Units of one letter, written just so: 5G is not five grams."""

_TITLES = {
    "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Dr": "Doctor", "St": "Saint", "Prof": "Professor", "Rev": "Reverend",
    "Gen": "General", "Sen": "Senator", "Rep": "Representative", "Gov": "Governor", "Capt": "Captain",
    "Lt": "Lieutenant", "Col": "Colonel", "Sgt": "Sergeant", "Hon": "Honorable", "Mt": "Mount", "Ft": "Fort",
}  # fmt: skip
_STREETS = {
    "St": "Street", "Dr": "Drive", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Ln": "Lane", "Hwy": "Highway",
    "Pkwy": "Parkway", "Ct": "Court", "Pl": "Place", "Sq": "Square",
}  # fmt: skip
_ABBREVIATIONS = {
    "apt": "apartment", "ste": "suite", "ext": "extension", "dept": "department", "approx": "approximately",
    "vs": "versus", "etc": "et cetera", "e.g": "for example", "i.e": "that is", "vol": "volume", "incl": "including",
    "bldg": "building", "tel": "telephone",
    "jr": "Junior", "sr": "Senior", "inc": "Incorporated", "ltd": "Limited", "co": "Company", "corp": "Corporation",
    "assn": "Association", "bros": "Brothers",
}  # fmt: skip
_AT_ENDS = {"etc", "jr", "sr", "inc", "ltd", "co", "corp"}

_PERIODS = {"mo": "month", "yr": "year", "hr": "hour", "wk": "week"}

_SYMBOLS = {
    "&": "and", "=": "equals", "+": "plus", "×": "times", "÷": "divided by", "≈": "about", "≤": "at most",
    "≥": "at least", "@": "at", "©": "copyright", "½": "one half", "¼": "one quarter", "¾": "three quarters",
}  # fmt: skip


# --- numbers as words ------------------------------------------------------------------------------------------------


def cardinal(number: int) -> str:
    """``1249``: one thousand two hundred forty-nine. Beyond the trillions, digit by digit."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_ONES[hundreds]} hundred" + (f" {cardinal(rest)}" if rest else "")
    words: list[str] = []
    rest = number
    for scale in _SCALES:
        rest, group = divmod(rest, 1000)
        if group:
            words.insert(0, f"{cardinal(group)} {scale}".strip())
    return " ".join(words) if not rest else " ".join(str(number))


def ordinal(number: int) -> str:
    """``21``: twenty-first."""
    words = cardinal(number)
    head, separator, last = words.rpartition("-" if "-" in words.split()[-1] else " ")
    last = _ORDINALS.get(last, f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return head + separator + last


def year(number: int) -> str:
    """``1905``: nineteen oh five; ``2026``: twenty twenty-six; ``2005``: two thousand five."""
    high, low = divmod(number, 100)
    if number < 1000 or number > 2999 or (high % 10 == 0 and low < 10):
        return cardinal(number)
    return f"{cardinal(high)} " + ("hundred" if not low else f"oh {cardinal(low)}" if low < 10 else cardinal(low))


def _split(number: str) -> tuple[str, str]:
    """The digits before and after the decimal mark: a stop, or the comma of 12,50 and 1.249,50."""
    if re.search(r",\d{1,2}$", number):
        number = number.replace(".", "").replace(",", ".")
    whole, _, part = number.replace(",", "").partition(".")
    return whole, part


def _quantity(text: str) -> str:
    """``1,249.5``: one thousand two hundred forty-nine point five."""
    whole, part = _split(text)
    if len(whole) > 15:
        return " ".join(whole + part)
    words = cardinal(int(whole or 0))
    return f"{words} point {' '.join(_ONES[int(digit)] for digit in part)}" if part else words


# --- readings --------------------------------------------------------------------------------------------------------

_NUMBER = (
    r"\d{1,3}(?:\.\d{3}){1,5},\d\d(?!\d)|\d{1,15},\d{1,2}(?![\d,])"
    r"|\d{1,3}(?:,\d{3}){1,5}(?:\.\d{1,6})?|\d{1,15}(?:\.\d{1,6})?"
)
_AFTER = r"(?![\w]|[.,/:-]\d)"


def _date(day: int, month: int, in_year: int | None, day_first: bool) -> str | None:
    try:
        date(in_year or 2000, month, day)
    except ValueError:
        return None
    tail = f", {year(in_year)}" if in_year else ""
    if day_first:
        return f"the {ordinal(day)} of {MONTHS[month - 1]}{tail}"
    return f"{MONTHS[month - 1]} {ordinal(day)}{tail}"


def _groups(pattern: str, text: str) -> tuple[Any, ...]:
    """The groups of a pattern that fits, since a wider one did."""
    found = re.match(pattern, text)
    assert found is not None
    return found.groups()


def _full_year(text: str) -> int:
    return int(text) if len(text) == 4 else 2000 + int(text) if int(text) < 70 else 1900 + int(text)


def _iso_date(match: Match, day_first: bool) -> str:
    in_year, month, day = map(int, match[0][:10].split("-"))
    words = _date(day, month, in_year, day_first)
    if not words or len(match[0]) == 10:
        return words or match[0]
    return f"{words} at {_clock(match[0][11:13], match[0][14:16])}" + (" UTC" if match[0].endswith("Z") else "")


def _on_date(match: Match, day_first: bool) -> str:
    first, second = map(int, match[0].split("/"))
    day, month = (first, second) if (day_first and second <= 12) or first > 12 else (second, first)
    return _date(day, month, None, day_first) or _fraction(match)


def _slash_date(match: Match, day_first: bool) -> str:
    first, second, in_year = re.split(r"[/.-]", match[0])
    a, b = int(first), int(second)
    day, month = (a, b) if (day_first and b <= 12) or a > 12 else (b, a)
    return _date(day, month, _full_year(in_year), day_first) or match[0].replace("/", " slash ")


def _month_day(match: Match, day_first: bool) -> str:
    name, day, in_year = _groups(r"([A-Z][a-z]{2})[a-z]*\.? (\d+)[a-z]*(?:,? (\d{4}))?", match[0])
    return (
        _date(int(day), MONTHS.index(_MONTH[name.lower()]) + 1, int(in_year) if in_year else None, day_first)
        or match[0]
    )


def _day_month(match: Match) -> str:
    day, name, in_year = _groups(r"(?:[Tt]he )?(\d+)[a-z]* (?:of )?([A-Z][a-z]{2})[a-z]*\.?(?:,? (\d{4}))?", match[0])
    number = MONTHS.index(_MONTH[name.lower()]) + 1
    words = _date(int(day), number, int(in_year) if in_year else None, True)
    return words.replace("the", match[0][:3], 1) if words and not match[0][0].isdecimal() else words or match[0]


def _time(match: Match) -> str:
    hours, minutes, half = _groups(r"(\d+)(?:[:.](\d\d))?\s?([AaPp])?", match[0])
    if int(hours) > 24 or int(minutes or 0) > 59:
        return match[0]
    if not half:
        return _clock(hours, minutes)
    words = _clock(hours, minutes).removesuffix(" o'clock").removesuffix(" hundred")
    return f"{words} {half.upper()}M" + (_stop(match) if match[0].endswith(".") else "")


def _clock(hours: str, minutes: str | None) -> str:
    words = cardinal(int(hours))
    if minutes and int(minutes):
        return words + (f" oh {cardinal(int(minutes))}" if int(minutes) < 10 else f" {cardinal(int(minutes))}")
    return words + (" o'clock" if int(hours) <= 12 else " hundred")


def _money(match: Match) -> str:
    text = match[0]
    sign = next((sign for sign in _SIGNS if sign in text), "") or _CODES["".join(re.findall("[A-Z]{3}", text))]
    number, last = _groups(rf"\D*({_NUMBER})(?:[-–]({_NUMBER}))?", text)
    large = re.search(r"(thousand|million|billion|trillion|[kmbt]n?)\b", re.sub("[A-Z]{3}", "", text).lower())
    one, many, cent, cents = _SIGNS[sign]
    minus = "minus " if re.match(r"\D?[-−]", text) else ""
    if last:
        size = f" {_LARGE.get(large[1], large[1])}" if large else ""
        return f"{_quantity(number)} to {_quantity(last)}{size} {many}"
    if large:
        return f"{minus}{_quantity(number)} {_LARGE.get(large[1], large[1])} {many}"
    whole, part = _split(number)
    if len(part) not in (0, 2):
        return f"{minus}{_quantity(number)} {many}"
    words = [f"{_quantity(whole)} {one if int(whole) == 1 else many}"] if int(whole) or not int(part or 0) else []
    if int(part or 0):
        words.append(f"{cardinal(int(part))} {cent if int(part) == 1 else cents}")
    return minus + " and ".join(words)


def _measure(match: Match) -> str:
    (number,) = _groups(rf"\D?({_NUMBER})", match[0])
    written = match[0][match[0].index(number) + len(number) :].strip().replace("° ", "°")
    unit = _LETTERS.get(written) or _UNITS[written.lower()]
    one, many = (unit, f"{unit}s") if isinstance(unit, str) else unit
    minus = "minus " if match[0][0] in "-−" else ""
    return f"{minus}{_quantity(number)} {one if number == '1' else many}"


def _range(match: Match) -> str:
    first, last = re.split(r"\s?[-–]\s?", match[0])
    return f"{first} to {last}"


def _fraction(match: Match) -> str:
    above, below = map(int, match[0].split("/"))
    if (above, below) == (24, 7):
        return "twenty-four seven"
    if not 0 < above < below <= 10:
        return f"{above} slash {below}"
    name = {2: "half", 4: "quarter"}.get(below) or ordinal(below)
    return f"{cardinal(above)} {name}" + ("" if above == 1 else "s")


_HOUSE = re.compile(r"\b\d+[A-Z]?(?: [NSEW]\.?)?(?: [A-Z][a-z']{1,30}| \d{1,3}(?:st|nd|rd|th)){1,3} $")
_NAME = re.compile(r"\b[A-Z][a-z']{1,30} $")


def _title_or_street(match: Match) -> str:
    """ "St. Paul" is a saint, "12 Main St." a street; so for Dr., Ct. and the like."""
    short, dotted = match[0].rstrip("."), match[0].endswith(".")
    before = match.string[max(0, match.start() - 80) : match.start()]
    after = match.string[match.end() : match.end() + 3]
    named = re.match(r"\s?[A-Z]", after) is not None
    if short in _STREETS and (_HOUSE.search(before) or (dotted and not named and _NAME.search(before))):
        return _STREETS[short] + (_stop(match) if dotted else "")
    if short in _TITLES and named and (dotted or short in ("Mr", "Mrs", "Ms", "Dr", "St")):
        return _TITLES[short] + ("" if after[0].isspace() else " ")
    return match[0]


def _abbreviation(match: Match) -> str:
    short = match[0].rstrip(".").lower()
    words = _ABBREVIATIONS[short]
    if match[0][0].isupper():
        words = words[0].upper() + words[1:]
    return words + (_stop(match) if short in _AT_ENDS else "")


def _stop(match: Match) -> str:
    """A stop that ended the sentence as well is kept."""
    rest = match.string[match.end() : match.end() + 3].lstrip(" \"')")
    return "." if not rest or rest[0] == "\n" or rest[0].isupper() else ""


def _number_sign(match: Match) -> str:
    words = "numbers " if "s" in match[0] else "number "
    return words if match.string[: match.start()].rstrip() else words.capitalize()


def _dotted(host: str) -> str:
    """ "example.co.uk": example dot co dot U K. Digits are read one by one."""
    *labels, last = host.split(".")
    words = [_signs(label) for label in labels]
    words.append(" ".join(last.upper()) if len(last) == 2 and last.lower() != "co" else last)
    return " dot ".join(words).replace("A I", "A, I")


def _signs(text: str) -> str:
    for sign, word in (("-", " dash "), ("_", " underscore "), ("+", " plus "), (".", " dot ")):
        text = text.replace(sign, word)
    return re.sub(r"\d", r" \g<0> ", text)


def _email(match: Match) -> str:
    local, _, host = match[0].rpartition("@")
    return f"{_signs(local)} at {_dotted(host)}"


def _url(match: Match) -> str:
    """Host and path; a path that nobody could remember is left out."""
    host, path = url_parts(match[0])
    if len(path) > 40 or path.count("/") > 2 or "%" in path:
        path = ""
    return _dotted(host) + "".join(f" slash {_signs(part)}" for part in path.split("/") if part)


def _digits(match: Match) -> str:
    """After "code", "PIN", "order number" and the like, digits are read one by one."""
    return ", ".join(" ".join(group) for group in re.findall(r"\d+", match[0]))


def _figure(match: Match) -> str:
    """A number that a voice reads well is kept: none that ends in a zero, 3.10, or has another language's marks."""
    text = match[0]
    if re.fullmatch(r"\d{1,3}(?:\.\d{3}){2,}", text):
        return text.replace(".", ",")
    if re.search(r",\d{1,2}$", text):
        whole, part = _split(text)
        return f"{whole} comma {' '.join(part)}"
    whole, _, part = text.partition(".")
    if re.match(r"0\d", whole):
        return f"{' '.join(whole)} point {' '.join(part)}"
    return f"{whole} point {' '.join(part)}" if part.endswith("0") else text


def _telephone(match: Match) -> str:
    if THOUSANDS.fullmatch(match[0]):
        return match[0].replace(" ", ",")
    return telephone(match[0]).replace("+", "plus")


def _star(match: Match) -> str:
    return f" star {' '.join(match[0][1:])} "


def _weekday(match: Match) -> str:
    return _DAYS[match[0].rstrip(".")] + (_stop(match) if match[0].endswith(".") else "")


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_months = rf"(?:{_any(MONTHS)}|(?:{_any(name[:3] for name in MONTHS)}|Sept)\b\.?)"
_year = r"(?:,? (?:19|20)\d\d\b)?"
_NUMBERED = (
    "code", "Code", "PIN", "pin", "extension", "number", "Number", "no.", "No.", "ext.", "Ext.", "ending in",
    "ends in", "digits", "digits are", "ZIP", "postcode",
)  # fmt: skip
_PRESSED = ("ress ", "nter ", "ial ", "hit ", "the ", "then ", "and ", "or ", "by ", '"', "'")
_READ_SINGLY = ("#", *(f"{word}{verb} " for word in _NUMBERED for verb in ("", " is", ":")))
_large = r"(?: ?(?:thousand|million|billion|trillion|[kKmMbB]n?)\b)?"
_codes = _any(_CODES)

_ISO_DATE = (
    r"(?<![\w/.-])\d{4}-\d\d-\d\d"
    rf"(?:T(?:[01]\d|2[0-3]):[0-5]\d(?::\d\d(?:\.\d{{1,6}})?)?(?:Z|[+-]\d\d:?\d\d)?)?{_AFTER}"
)
_SLASH_DATE = rf"(?<![\w/.-])\d{{1,2}}(?:/\d{{1,2}}/|-\d{{1,2}}-|\.\d{{1,2}}\.)(?:\d{{4}}|\d\d){_AFTER}"
_MONTH_DAY = rf"\b{_months} \d{{1,2}}(?:st|nd|rd|th)?(?![\w:%]|[.,]\d){_year}"

_READINGS: dict[str, tuple[str, Reading]] = {
    "day_month": (rf"\b(?:[Tt]he )?\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_months}(?![\w]){_year}", _day_month),
    "time": (
        r"(?<![\w:.])\d{1,2}(?:[:.]\d\d ?[AaPp]\.?[Mm]\b\.?| ?[AaPp]\.?[Mm]\b\.?|:\d\d)(?![\d:])",
        _time,
    ),
    "money": (
        rf"(?<![\w.])[-−]?(?:US)?(?:[$€£¥][-−]?|(?:{_codes}) ?)(?:{_NUMBER})"
        rf"(?:[-–](?:{_NUMBER})(?![\d%]|[/-]\d))?{_large}(?!\d)"
        rf"|(?<![\w.,])(?:{_NUMBER}) ?(?:[€£$¥](?!\d)|(?:{_codes})\b)",
        _money,
    ),
    "measure": (
        rf"(?<![\w.,/:-])[-−]?(?:{_NUMBER})"
        rf"(?: ?(?:(?i:{_any(unit for unit in _UNITS if unit[0].isalpha())})|{_any(_LETTERS)})(?![\w/])"
        r"| ?%| ?° ?(?:[CF]\b)?)",
        _measure,
    ),
    "until": (r"(?<=[\d.mM]) ?[-–] ?(?=\d{1,2}(?:[:.]\d\d\b| ?[AaPp]\.?[Mm]\b)|[$€£¥]\d)", lambda match: " to "),
    "fraction": (r"(?<![\w/.,])\d{1,2}/\d{1,2}(?![\w/]|[.,]\d)", _fraction),
    "digits": (
        "(?:"
        + "|".join(rf"(?<={re.escape(word)})" for word in _READ_SINGLY)
        + r")(?:\d{4,5}|\d{3}[ -]\d{3})(?![\w]|[.,-]\d)"
        r"|(?<=[Cc]all )\d{3}(?![\w]|[ .,-]\d)|(?<=, [A-Z]{2} )\d{5}(?![\w]|[.,-]\d)",
        _digits,
    ),
    "range": (
        r"(?<![\w.,/+()-])(?!0\d)(?:\d{1,3} ?[-–] ?(?!0\d)\d{1,3}|(?:19|20)\d\d ?[-–] ?(?:19|20)\d\d)(?![\w/-]|[.,]\d)",
        _range,
    ),
    "ordinal": (r"(?<![\w.,-])\d{1,4}(?:st|nd|rd|th)\b", lambda match: ordinal(int(match[0][:-2]))),
    "per": (r"(?<=\d)/(?:mo|yr|hr|wk)\b", lambda match: f" per {_PERIODS[match[0][1:]]}"),
    "per_word": (
        r"(?<=\d)/(?=(?:month|year|week|day|hour|night|minute|person|user|seat|unit|item)\b)",
        lambda match: " per ",
    ),
    "extension": (r"(?<=\d{4}) ?x(?=\d{1,6}(?!\w))", lambda match: ", extension "),
    "sharp": (r"(?<=\b[CF])#(?!\w)", lambda match: " sharp"),
    "star": (r"∗\d{0,3}", _star),
    "title_or_street": (rf"\b(?:{_any({*_TITLES, *_STREETS})})\b\.?", _title_or_street),
    "number_sign": (r"\b[Nn]os?\. ?(?=\d)|№ ?(?=\d)|#(?=\d)", _number_sign),
    "weekday": (
        rf"\b(?:(?:{_any(_DAYS)})(?= ?[-–] ?(?:{_any(_DAYS)})\b)|(?:{_any(d for d in _DAYS if d != 'Sun')})\.)",
        _weekday,
    ),
    "weekday_range": (rf"(?<=[a-z]) ?[-–] ?(?:{_any(_DAYS)})\b", lambda match: f" to {_DAYS[match[0].strip(' -–')]}"),
    "abbreviation": (rf"(?<![\w.])(?i:{_any(_ABBREVIATIONS)})\.(?!\w)", _abbreviation),
    "with": (r"(?<![\w/])w/o?(?!\w)", lambda match: "without" if "o" in match[0] else "with"),
}


def english_readings(day_first: bool) -> dict[str, tuple[str, Reading]]:
    """Patterns by name, in the order in which they are tried, with their words. ``day_first``: 12/03 is in March."""
    return {
        "email": (ADDRESSES["email"][0], _email),
        "url": (ADDRESSES["url"][0], _url),
        "hash": (
            "(?:" + "|".join(f"(?<={word})" for word in _PRESSED) + r")#(?!\w)|#(?= (?:key|sign)\b)",
            lambda match: "hash" if day_first else "pound",
        ),
        "on_date": (r"(?<=\b[Oo]n )\d{1,2}/\d{1,2}(?![\w/]|[.,]\d)", partial(_on_date, day_first=day_first)),
        "mixed": (r"(?<=\d) ?[½¼¾]", lambda match: f" and {_SYMBOLS[match[0][-1]]} "),
        "iso_date": (_ISO_DATE, partial(_iso_date, day_first=day_first)),
        "slash_date": (_SLASH_DATE, partial(_slash_date, day_first=day_first)),
        "month_day": (_MONTH_DAY, partial(_month_day, day_first=day_first)),
        **_READINGS,
        **NUMBERS,
        "figure": (NUMBERS["figure"][0], _figure),
        "telephone": (NUMBERS["telephone"][0], _telephone),
        "zeros": (r"(?<![\w.,:/+])(?<!\d')0\d{1,9}(?![\w]|[.,:/]\d)", _digits),
        "thousand": (r"(?<![\w.,])[1-9]\d{0,2} 000(?![\w]|[ .,-]\d)", lambda match: match[0].replace(" ", ",")),
        "symbol": (f"[{''.join(_SYMBOLS)}]", lambda match: f" {_SYMBOLS[match[0]]} "),
        "either": (r"(?<=[A-Za-z])/(?=[A-Za-z])", lambda match: " "),
    }
