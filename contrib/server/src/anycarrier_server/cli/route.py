"""``anycarrier route explain``: what would happen to an incoming call, and why."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from anycarrier_server.cli.table import print_json, text
from anycarrier_server.cli.typed import phone_number
from anycarrier_server.cli.words import Verb, Word, option

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client


async def explain(client: Client, asked: Namespace) -> int:
    told = await client.get("/ops/route", to=asked.to, **({"from": asked.caller} if asked.caller else {}))
    if asked.json:
        print_json(told)
    else:
        width = max(len(step["question"]) for step in told["steps"])
        for step in told["steps"]:
            mark = ">" if step["decides"] else " "
            print(f"{mark} {step['question']:<{width}}  {text(step['found'])}")
        print(f"\n{told['outcome']}: {text(told['why'])}")
    return 1 if told["outcome"] == "reject" else 0


WORD = Word(
    "route",
    "why calls go where they go",
    {
        "explain": Verb(
            explain,
            "follow an incoming call through number, agent, rules, limits and action, without a call; 1 if declined",
            (
                option("to", type=phone_number, help="the number rung: +1..."),
                option(
                    "--from",
                    dest="caller",
                    type=phone_number,
                    metavar="NUMBER",
                    help="who rings; default: somebody no rule names",
                ),
            ),
        )
    },
)
main = WORD.main
