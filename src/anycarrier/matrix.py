"""Which carrier can do what, as a table made from the plugins themselves, so that it cannot rot."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from anycarrier.provider import Capability, Provider

HEAD = """\
# What each carrier can do

Made from the installed plugins by `anycarrier matrix`; do not edit. A provider declares an ability by overriding the
method of that name, so this table says what the code says. Asking for what a carrier lacks raises
`UnsupportedOperation`; `provider.supports(Capability.TRANSFER)` asks beforehand. Every carrier has the first seven;
one without a stock of numbers answers `search_numbers` with `UnsupportedOperation`.
"""


def matrix(providers: Iterable[type[Provider]]) -> str:
    """A Markdown page: a row for each method of the contract, a column for each provider."""
    columns = sorted(providers, key=lambda p: p.name)
    rows = [["", "what it does", *(p.title for p in columns)], ["---"] * (2 + len(columns))]
    for name in (n for n in vars(Provider) if n in Provider.__abstractmethods__):
        rows.append([f"`{name}`", _purpose(name), *("yes" for _ in columns)])
    for capability in Capability:
        lacking = "hangs up" if capability is Capability.REJECT else "-"
        having = ("yes" if capability in p.capabilities else lacking for p in columns)
        rows.append([f"`{capability}`", _purpose(capability), *having])
    asked = ("yes" if p.answers_in_reply else "by REST" for p in columns)
    rows.append(["", "Is instructed in the reply to its webhook.", *asked])
    rows.append(["", "Tells when the far end rings.", *("yes" if p.reports_ringing else "-" for p in columns)])
    rows.append(["", "Ships a sandbox.", *("yes" if p.sandbox else "-" for p in columns)])
    return HEAD + "\n" + "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _purpose(method: str) -> str:
    """The first sentence of the method's docstring in the contract."""
    text = " ".join((inspect.getdoc(getattr(Provider, method)) or "").split())
    return text.split(". ")[0].rstrip(".").replace("``", "`") + "."
