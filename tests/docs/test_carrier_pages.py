"""Each carrier of ours has its row in docs/carriers.md and its page, whose file of ten lines makes a first call."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from anycarrier import EndReason
from anycarrier.plugins import get_provider
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import sandbox_type
from docs.blocks import blocks
from docs.test_written_pages import rows

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OURS = sorted(folder.parent.name for folder in ROOT.glob("providers/*/pyproject.toml"))

HEADINGS = [
    "From account to first call",
    "On a call",
    "On an account",
    "What is not known without an account",
    "What the sandbox does not model",
]
QUESTIONS = {
    "ringing", "`send_digits`", "machine detection", "audio", "decline a call", "`transfer`", "`forward` shows",
    "`Call.price`", "`hang_up` of a call that is gone", "`fetch_call`", "`start_recording`",
}  # fmt: skip
"""What every page says of a call, in these words, so that two pages can be compared."""


class Tried(ast.NodeTransformer):
    """A page's file with the sandbox's account and a loopback address in place of real ones."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.replaced: list[str] = []

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if ast.unparse(node.targets[0]) == "account":
            self.replaced.append("account")
            node.value = ast.Name("ACCOUNT", ast.Load())
        return self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        if node.arg == "public_url":
            self.replaced.append("public_url")
            node.value = ast.Constant(self.url)
        elif node.arg == "carrier_settings" and isinstance(node.value, ast.List):
            node.value.elts = [ast.Call(each.func, [], []) for each in node.value.elts if isinstance(each, ast.Call)]
        return self.generic_visit(node)


def page_of(name: str) -> Path:
    return DOCS / "carriers" / f"{name}.md"


def first_file(name: str) -> str:
    return next(block.text for block in blocks(page_of(name)) if block.language == "python")


def test_each_carrier_has_its_row_and_its_page() -> None:
    table = rows(DOCS / "carriers.md", "carrier | wheel | numbers | calls | signatures | media | what it lacks")
    links = {name: f"[{get_provider(name).title}](carriers/{name}.md)" for name in OURS}
    expected = {links[name]: f"`anycarrier-{name}`" for name in OURS}
    assert {cells[0]: cells[1] for cells in table} == expected
    assert [cells[0] for cells in table] == sorted((cells[0] for cells in table), key=str.lower)
    assert all(len(cells) == 7 and all(cells) for cells in table)
    assert sorted(page.stem for page in DOCS.glob("carriers/*.md")) == OURS


@pytest.mark.parametrize("name", OURS)
def test_the_page_says_what_every_page_says(name: str) -> None:
    text = page_of(name).read_text()
    headings = re.findall("^## (.+)$", text, re.MULTILINE)
    assert [heading for heading in headings if heading in HEADINGS] == HEADINGS
    assert text.startswith(f"# {get_provider(name).title}\n")
    call = text.partition("## On a call\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| (.+?) \| .+ \|$", call, re.MULTILINE))
    assert QUESTIONS - told == set()


@pytest.mark.parametrize("name", OURS)
async def test_the_pages_file_of_ten_lines_takes_a_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCARRIER_SECRET", "0" * 64)
    text = first_file(name)
    assert len([line for line in text.splitlines() if line.strip()]) <= 10
    async with serve_sandbox(sandbox_type(name)) as carrier:
        carrier.add_number("+14155550100")
        port = listening()
        tried = Tried(url_of(port))
        tree = ast.fix_missing_locations(tried.visit(ast.parse(text)))
        assert tried.replaced == ["account", "public_url"]
        names: dict[str, Any] = {"ACCOUNT": carrier.credential()}
        carrier.point_webhooks(f"{url_of(port)}/{name}/main")
        exec(compile(tree, f"{name}.md", "exec"), names)
        async with serve(names["app"], port):
            caller = await carrier.ring("+14155550100", "+12125550123")
            await caller.wait_heard(1.5)  # all of it, where nothing stalls and the carrier tells what was played
            call = await names["exchange"].wait_for(caller.call_id)
    assert (call.reason, call.agent_id) == (EndReason.AGENT_HANGUP, "desk")
    assert b"\x20\xa0" * 160 in caller.heard
