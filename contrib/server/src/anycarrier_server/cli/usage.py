"""``anycarrier usage``: how much was called, and what is left of the limits."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from anycarrier_server.cli.table import show_one
from anycarrier_server.cli.words import Verb, Word

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client


async def usage(client: Client, asked: Namespace) -> None:
    show_one(asked, await client.get("/v1/usage"))


WORD = Word(
    "usage",
    "how much was called, and what is left of the limits. Days and months begin at 00:00 UTC; limits count over the "
    "last 24 hours",
    {"": Verb(usage, "calls and minutes of the workspace, and what is left of its limits")},
)
main = WORD.main
