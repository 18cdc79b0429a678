"""Pages written by hand say what the code says: lists that would rot are compared, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from anycarrier import EndReason, errors
from anycarrier.calls import CallStatus
from anycarrier.plugins import get_provider
from anycarrier.provider import Capability
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import Sandbox
from anycarrier_telnyx.sandbox import TelnyxSandbox
from anycarrier_twilio.sandbox import TwilioSandbox
from docs.blocks import blocks
from frameworks.environments import discover, name_of
from test_house_rules import PURE, ROOMS, SERVER_LAYERS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("frameworks/*.md")),
         *sorted(DOCS.glob("carriers/*.md")), *sorted(ROOT.glob("providers/*/*.md")),
         *sorted(ROOT.glob("contrib/*.md")), *sorted(ROOT.glob("contrib/*/*.md"))]  # fmt: skip


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the table whose header row begins with ``heading``."""
    lines = page.read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if line == f"| {heading} |")
    found = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


# --- frameworks ---------------------------------------------------------------------------------------------------


def test_the_frameworks_page_names_the_versions_that_are_tested() -> None:
    table = rows(DOCS / "frameworks.md", "framework | tested with | distribution | example | what it brings")
    told = {row[2]: row[1] for row in table}
    for framework in discover().values():
        first = name_of(framework.requires[0])
        link = f"[{framework.project['name']}](../contrib/{framework.name}/README.md)"
        assert told[link] == f"{first} {framework.pinned()[first]}"
    front = "[anycarrier-twilio-front](../contrib/twilio-front/README.md)"
    assert f"{told[front].replace(' ', '==')}\n" in (ROOT / "constraints.txt").read_text()


def test_the_frameworks_page_leads_to_each_frameworks_page() -> None:
    text = (DOCS / "frameworks.md").read_text()
    assert [page.name for page in DOCS.glob("frameworks/*.md") if f"(frameworks/{page.name})" not in text] == []


# --- install ---------------------------------------------------------------------------------------------------------


def test_the_extras_named_in_the_docs_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = "\n".join(page.read_text() for page in sorted(DOCS.glob("*.md")))
    named = {"".join(found) for found in re.findall(r"[Tt]he\s+extra\s+`(\w+)`|\.\[(\w+)\]", text)}
    assert named >= {"testing", "resampling"} and named - {*project["optional-dependencies"]} == set()


# --- README, quickstart ----------------------------------------------------------------------------------------------


def first_python(page: Path) -> str:
    return next(block.text for block in blocks(page) if block.language == "python")


@pytest.mark.parametrize("sandbox", [TelnyxSandbox, TwilioSandbox])
async def test_the_readmes_app_takes_a_call_on_either_carrier(
    sandbox: type[Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what belongs to a real account is replaced: the credential and the public address."""
    monkeypatch.setenv("ANYCARRIER_SECRET", "0" * 64)
    async with serve_sandbox(sandbox) as carrier:
        carrier.add_number("+14155550100")
        port = listening()
        text = first_python(ROOT / "README.md")
        text, credentials = re.subn(r"TelnyxCredential\(api_key=.*\)$", "ACCOUNT", text, flags=re.MULTILINE)
        text, urls = re.subn("https://voice.example.com", url_of(port), text)
        assert (credentials, urls) == (1, 1)
        names: dict[str, Any] = {"ACCOUNT": carrier.credential()}
        exec(compile(text, "README.md", "exec"), names)
        async with serve(names["app"], port):
            caller = await carrier.ring("+14155550100", "+12125550123")
            await caller.say(b"\x20\xa0" * 800)
            await caller.wait_heard(0.2)
            await caller.hang_up()
            call = await names["exchange"].wait_for(caller.call_id)
    assert (call.reason, call.agent_id) == (EndReason.USER_HANGUP, "desk")


def test_the_readmes_example_fits_the_first_screen() -> None:
    text = (ROOT / "README.md").read_text()
    assert len([line for line in first_python(ROOT / "README.md").splitlines() if line.strip()]) <= 12
    assert text[: text.index("```\n\n")].count("\n") < 30


@pytest.mark.parametrize("carrier", ["telnyx", "twilio"])
def test_the_quickstarts_file_prints_what_it_says_on_either_carrier(carrier: str, tmp_path: Path) -> None:
    page = DOCS / "quickstart.md"
    (tmp_path / "hello.py").write_text(
        first_python(page).replace("telnyx", carrier).replace("Telnyx", carrier.title())
    )
    run = subprocess.run([sys.executable, "hello.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    shown = next(block.text for block in blocks(page) if "$ python hello.py" in block.text)
    assert run.stdout == shown.partition("$ python hello.py\n")[2], run.stderr


def test_the_readmes_two_commands_are_words_of_dev() -> None:
    words = re.findall(r"^\$ \./dev (\w+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    usage = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    assert words == ["demo", "test"]
    assert all(re.search(rf"^  {word} ", usage, re.MULTILINE) for word in words)


def test_the_readmes_table_is_what_the_plugins_declare() -> None:
    carriers = [get_provider(folder.parent.name) for folder in ROOT.glob("providers/*/pyproject.toml")]
    seen = 0
    for what, which, _ in rows(ROOT / "README.md", "| which carriers | yours"):
        for method in re.findall(r"`(\w+)`", what):
            seen += 1
            have = [provider for provider in carriers if Capability(method) in provider.capabilities]
            assert which == "most" and len(have) > len(carriers) / 2, method
    assert seen > 10


def test_the_readme_names_every_carrier_of_ours() -> None:
    folders = sorted(folder.parent.name for folder in ROOT.glob("providers/*/pyproject.toml"))
    first = (ROOT / "README.md").read_text().partition("```")[0]
    assert re.findall(r"\(docs/carriers/(\w+)\.md\)", first) == folders


# --- errors, reasons, rooms ------------------------------------------------------------------------------------------


def classes_of_errors() -> set[type[Exception]]:
    return {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.AnycarrierError)}


def test_the_tree_of_errors_is_the_one_in_the_code() -> None:
    tree = next(block.text for block in blocks(DOCS / "errors.md") if block.text.startswith("AnycarrierError\n"))
    drawn: set[tuple[str, str]] = set()
    above: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], line.strip()]
        drawn.add((line.strip(), above[depth - 1] if depth else "Exception"))
    assert drawn == {(c.__name__, c.__bases__[0].__name__) for c in classes_of_errors()}


def test_every_error_has_a_cause_and_a_next_step() -> None:
    table = rows(DOCS / "errors.md", "error | cause | next step")
    assert [cells[0].strip("`") for cells in table] == [
        line.strip()
        for block in blocks(DOCS / "errors.md")
        if block.text.startswith("AnycarrierError\n")
        for line in block.text.splitlines()
    ]
    assert all(len(cells) == 3 and all(cells) for cells in table)


def test_every_end_reason_is_explained() -> None:
    named = [cells[0].strip("`") for cells in rows(DOCS / "how-a-call-travels.md", "reason | means")]
    assert named == [reason.value for reason in EndReason]


def test_the_statuses_are_in_their_order() -> None:
    text = (DOCS / "how-a-call-travels.md").read_text()
    assert f"goes one way: {', '.join(f'`{status.value}`' for status in CallStatus)}." in text


def test_the_rooms_are_in_the_order_the_house_keeps() -> None:
    assert [cells[0].strip("`") for cells in rows(DOCS / "architecture.md", "room | the one idea")] == list(ROOMS)


def test_the_architecture_page_lists_the_layers_of_the_service_in_their_order() -> None:
    cells = [row[0] for row in rows(DOCS / "architecture.md", "layer | the one idea")]
    assert [name.strip("`") for cell in cells for name in cell.split(", ")] == SERVER_LAYERS


def test_the_pure_rooms_are_named() -> None:
    sentence = re.search(r"Some rooms are \*pure\*: (.*?) and every", (DOCS / "architecture.md").read_text(), re.DOTALL)
    assert sentence is not None
    assert set(re.findall(r"`([\w.]+)`", sentence[1])) == PURE


# --- security, links -------------------------------------------------------------------------------------------------


def test_each_finding_has_its_row() -> None:
    assert [cells[0] for cells in rows(DOCS / "security.md", "| elsewhere | here | tested in")] == [
        f"S{number}" for number in range(1, 16)
    ]


def test_each_carrier_has_its_row_of_how_it_proves_itself() -> None:
    carriers = [get_provider(folder.parent.name) for folder in ROOT.glob("providers/*/pyproject.toml")]
    table = rows(DOCS / "security.md", "carrier | what proves that it is the carrier | what that costs | tested in")
    assert [cells[0] for cells in table] == sorted((carrier.title for carrier in carriers), key=str.lower)
    assert all(len(cells) == 4 and all(cells) for cells in table)


def test_each_rule_for_sip_has_its_row() -> None:
    found = [cells[0] for cells in rows(DOCS / "security.md", "| rule | tested in")]
    assert found == [f"P{number}" for number in range(1, 12)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_test_named_on_a_page_exists(page: Path) -> None:
    for file, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text()):
        assert (ROOT / file).is_file(), f"{page.name} names {file}"
        found = not test or re.search(rf"^(async )?def {test}", (ROOT / file).read_text(), re.MULTILINE)
        assert found, f"{page.name} names {file}::{test}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}: no such heading"


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# One\n[a](page.md#one) [b](gone.md)\n")
    with pytest.raises(AssertionError, match=r"gone\.md"):
        test_every_link_leads_somewhere(tmp_path / "page.md")
    (tmp_path / "page.md").write_text("# One\n[a](#two)\n")
    with pytest.raises(AssertionError, match="no such heading"):
        test_every_link_leads_somewhere(tmp_path / "page.md")


def test_every_page_is_on_the_map() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "index.md").read_text()))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"index.md"}


def test_the_service_page_says_which_fields_a_credential_of_each_carrier_has() -> None:
    table = rows(DOCS / "service.md", "`provider` | `api_key` is its | needed in `metadata` | may be there")
    assert [cells[0].strip("`") for cells in table] == sorted(path.name for path in ROOT.glob("providers/*"))
    for name, key, needed, further in table:
        kind = get_provider(name.strip("`")).credential_type
        required = {field for field, told in kind.model_fields.items() if told.is_required()} - {kind.key_field()}
        assert re.findall("`([a-z_]+)`", key)[0] == kind.key_field()
        assert set(re.findall("`([a-z_]+)`", needed)) == required
        told = set(re.findall("`([a-z_]+)`", further))
        optional = kind.model_fields.keys() - required - {kind.key_field(), "provider", "base_url"}
        assert told == optional or (name == "`sip`" and told == set())
