"""What commands print, and what they read, without a server."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentTypeError, Namespace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from anycarrier.errors import ConfigurationError
from anycarrier_server.cli import arguments
from anycarrier_server.cli.arguments import NotFound, digits, pair, phone_number, pick, spelled, text_pair, timestamp
from anycarrier_server.cli.client import Refused, read
from anycarrier_server.cli.connection import checked, find_address
from anycarrier_server.cli.output import Column, clean, columns_of, show_one, show_rows, table, text, working
from anycarrier_server.cli.tail import SAID, line_of
from anycarrier_server.domain.check_setup import skew_of

JSON = Namespace(json=True)
PLAIN = Namespace(json=False)

# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_table_is_as_wide_as_what_is_in_it_and_has_no_trailing_spaces() -> None:
    rows = [{"id": "a", "n": {"x": 1}}, {"id": "longer", "n": None}]
    assert table(rows, ("id", Column("number", "n.x"))) == ("ID      NUMBER\na       1\nlonger  -", [])


ID = "call_0123456789abcdef0123456789abcdef"
TWIN = "call_0123456789aaaaaa0123456789abcdef"
CALLS = [
    {"id": ID, "who": "a name of thirty characters and", "why": "busy", "n": 1, "status": "failed"},
    {"id": TWIN, "who": "short", "why": "x", "n": 2, "status": "completed"},
]
COLUMNS = (
    Column("who", "who", flexible=True), Column("why", "why", rank=1), Column("n", "n", rank=2), "status", "id"
)  # fmt: skip


def test_on_a_terminal_ids_are_as_short_as_tells_them_apart() -> None:
    assert table(CALLS[:1], ("id",), 80)[0].splitlines()[1] == "call_01234567"
    assert table(CALLS, ("id",), 80)[0].splitlines()[1:] == ["call_0123456789ab", "call_0123456789aa"]
    assert ID in table(CALLS, ("id",))[0]


@pytest.mark.parametrize(
    ("width", "left_out"), [(80, []), (67, ["N"]), (60, ["N", "WHY"]), (44, ["N", "WHY"])], ids=str
)
def test_a_table_fits_the_terminal_by_leaving_out_and_then_by_cutting(width: int, left_out: list[str]) -> None:
    lines, missing = table(CALLS, COLUMNS, width)
    assert missing == left_out
    assert max(map(columns_of, lines.splitlines())) <= width
    assert "call_0123456789ab" in lines, "an id is never cut: it would be no use"


def test_a_table_counts_the_columns_of_the_terminal_and_not_characters() -> None:
    lines = table([{"who": "日本語", "id": "x"}, {"who": "abcdef", "id": "y"}], ("who", "id"))[0].splitlines()
    assert lines[1].index("x") == lines[2].index("y") - 3


def test_a_column_has_a_short_form_for_terminals() -> None:
    column = Column("direction", "direction", short=lambda row: row["direction"][:2])
    assert table([{"direction": "inbound"}], (column,), 80)[0] == "DIRECTION\nin"
    assert table([{"direction": "inbound"}], (column,))[0] == "DIRECTION\ninbound"


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=str
)
def test_a_failed_call_has_another_colour_on_a_terminal_that_wants_colours(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    failed, completed = table(CALLS, ("status",))[0].splitlines()[1:]
    assert failed == ("\033[31mfailed\033[0m" if coloured else "failed")
    assert completed == "completed"


def test_without_a_terminal_nothing_is_coloured_or_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(PLAIN, CALLS, COLUMNS)
    printed = capsys.readouterr()
    assert "\033" not in printed.out and ID in printed.out and not printed.err


def test_what_was_left_out_is_said_beside_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anycarrier_server.cli.output.terminal_width", lambda: 60)
    show_rows(PLAIN, CALLS, COLUMNS)
    assert capsys.readouterr().err == "(N, WHY left out: --wide shows all)\n"
    show_rows(Namespace(json=False, wide=True), CALLS, COLUMNS)
    assert ID in capsys.readouterr().out


def test_what_others_named_cannot_steer_the_terminal_or_break_a_line() -> None:
    assert clean("\x1b[31mred\x9b2J\u202e") == "\ufffd[31mred\ufffd2J\ufffd"
    assert "\n" not in text({"name": "two\nlines"}) and text("two\nlines") == "two lines"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), ("", "-"), (False, "no"), (0, "0"), ([], "-"), (["a", "b"], "a, b"), ({"a": 1}, '{"a": 1}')],
)
def test_values_are_written_as_people_read_them(value: Any, shown: str) -> None:
    assert text(value) == shown


def test_json_is_what_the_server_said_even_when_it_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(JSON, [], ("id",), "nothing here")
    assert json.loads(capsys.readouterr().out) == []
    show_rows(PLAIN, [], ("id",), "nothing here")
    assert capsys.readouterr().out == "nothing here\n"


def test_one_thing_is_shown_without_the_fields_that_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show_one(PLAIN, {"id": "x", "none": None, "empty": [], "no": False, "secret": "s"}, hide=("secret",))
    assert capsys.readouterr().out == "id  x\nno  no\n"


def test_a_line_of_tail_has_the_time_the_call_and_the_details() -> None:
    event = {"at": "2026-01-31T12:00:01.250000Z", "call_id": "call_0123456789", "event": "call.ended",
             "details": {"reason": "busy"}}  # fmt: skip
    assert line_of(event) == "12:00:01.250Z  call_0123456789  call.ended  reason=busy"
    assert line_of({**event, "call_id": ID}).startswith("12:00:01.250Z  call_01234567  call.ended")


def test_a_line_of_tail_says_who_said_what() -> None:
    said = {"at": "2026-01-31T13:00:01+01:00", "call_id": ID, "event": SAID,
            "details": {"role": "user", "content": "good\x1b[2J morning"}}  # fmt: skip
    assert line_of(said) == "12:00:01.000Z  call_01234567  user: good\ufffd[2J morning"


# --- what is typed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "read_as"),
    [("speed=1.2", 1.2), ("speed=fast", "fast"), ("speed=null", None), ("speed=a=b", "a=b"), ("speed=", "")],
)
def test_a_setting_is_json_where_it_reads_as_json(typed: str, read_as: Any) -> None:
    assert pair(typed) == ("speed", read_as)


@pytest.mark.parametrize(
    ("typed", "read_as"),
    [("2026-01-31", "2026-01-31T00:00:00Z"), ("2026-01-31T12:00:00+01:00", "2026-01-31T11:00:00Z"),
     ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z")],
)  # fmt: skip
def test_a_time_is_read_with_its_zone(typed: str, read_as: str) -> None:
    assert timestamp(typed) == read_as


def test_a_time_may_be_so_long_ago() -> None:
    ago = datetime.now(UTC) - datetime.fromisoformat(timestamp("90m"))
    assert timedelta(minutes=89) < ago < timedelta(minutes=91)


@pytest.mark.parametrize(("typed", "why"), [("yesterday", "not a time"), ("2026-01-31T12:00:00", "no zone")])
def test_a_time_without_a_zone_is_not_guessed(typed: str, why: str) -> None:
    with pytest.raises(ArgumentTypeError, match=why):
        timestamp(typed)


def test_a_phone_number_may_be_typed_as_it_is_printed_but_not_guessed() -> None:
    assert phone_number("+1 (415) 555-0100") == "+14155550100"
    with pytest.raises(ArgumentTypeError, match="country code"):
        phone_number("0415 5550100")


def test_a_credentials_detail_stays_text() -> None:
    assert text_pair("account=0012") == ("account", "0012")


@pytest.mark.parametrize("typed", ["speed", "=1", " =1"])
def test_what_is_no_pair_is_refused(typed: str) -> None:
    with pytest.raises(ArgumentTypeError, match="name=value"):
        pair(typed)


ROWS = [{"id": "agt_1", "name": "Aria"}, {"id": "agt_2", "name": "Ben"}, {"id": "agt_3", "name": "Ben"}]


def test_a_thing_is_found_by_id_or_name_in_any_case() -> None:
    assert pick(ROWS, "AGT_2", ("id", "name"), "agent")["id"] == "agt_2"
    assert pick(ROWS, "aria", ("id", "name"), "agent")["id"] == "agt_1"


@pytest.mark.parametrize(("name", "told"), [("ben", r"any of 2: .*agt_2, agt_3"), ("Cleo", "known: Aria, Ben, Ben")])
def test_a_name_of_several_or_of_none_lists_what_there_is(name: str, told: str) -> None:
    with pytest.raises(NotFound, match=told):
        pick(ROWS, name, ("id", "name"), "agent")


@pytest.mark.parametrize("text", ["agt_51c0aa02", "51C0AA", "51c0aa02-1111", "agt_51c0aa02111122223333444455556666"])
def test_a_thing_is_found_by_how_its_id_begins(text: str) -> None:
    rows = [{"id": "agt_51c0aa02111122223333444455556666", "name": "Aria"}, *ROWS]
    assert pick(rows, text, ("id", "name"), "agent")["name"] == "Aria"
    plain = [{"id": "51c0aa02-1111-2222-3333-444455556666", "name": "Aria"}]
    assert pick(plain, text, ("id", "name"), "agent")["name"] == "Aria", "in the other API's spelling too"


@pytest.mark.parametrize("text", ["crd_51c0aa02", "agt_51c0", "51c0x", "agt_51c0aa03"])
def test_another_kind_of_thing_or_too_few_digits_are_not_found(text: str) -> None:
    rows = [{"id": "agt_51c0aa02111122223333444455556666", "name": "Aria"}]
    with pytest.raises(NotFound, match="no agent"):
        pick(rows, text, ("id", "name"), "agent")


def test_a_name_that_a_table_has_cut_is_found() -> None:
    assert pick(ROWS, "Ari…", ("id", "name"), "agent")["id"] == "agt_1"
    with pytest.raises(NotFound, match="any of 2"):
        pick(ROWS, "Be…", ("id", "name"), "agent")


def test_a_beginning_of_several_ids_lists_them() -> None:
    rows = [{"id": f"agt_51c0aa{n}2111122223333444455556666", "name": n} for n in "01"]
    with pytest.raises(NotFound, match=r"any of 2: .*agt_51c0aa0.*agt_51c0aa1"):
        pick(rows, "agt_51c0aa", ("id", "name"), "agent")


def test_a_name_that_is_nearly_right_is_offered() -> None:
    with pytest.raises(NotFound, match=r"\(did you mean 'Aria'\?\)"):
        pick(ROWS, "Arai", ("id", "name"), "agent")


def test_an_id_is_spelled_one_way_whichever_api_it_is_from() -> None:
    assert spelled("rul", "73cb3fa4-0000-1111-2222-333344445555") == "rul_73cb3fa4000011112222333344445555"
    assert spelled("key", "ApiKey_73cb3fa4-0000-1111-2222-333344445555")[:12] == "key_73cb3fa4"
    assert pick([{"id": "ApiKey_73cb3fa4-0000-1111-2222-333344445555", "x": 1}], "key_73cb3fa4", ("id", "x"), "key")


def test_both_spellings_of_an_id_have_the_same_digits() -> None:
    assert digits("agt_9111daee446449c89ce6b3663c83006e") == digits("9111daee-4464-49c8-9ce6-b3663c83006e")
    assert digits(None) == ""


def test_a_word_with_one_verb_has_it_under_no_name() -> None:
    ran: list[Any] = []

    async def do(asked: Namespace) -> int:
        ran.append(asked.count)
        return 7

    counting = arguments.option("--count", type=int)
    word = arguments.Word("word", "for a test", {"": arguments.Verb(do, "do it", (counting,), connects=False)})
    assert word(["--count", "3"]) == 7
    assert ran == [3]


def test_options_may_not_be_abbreviated_since_more_may_come() -> None:
    async def do(asked: Namespace) -> None: ...

    word = arguments.Word(
        "word", "for a test", {"do": arguments.Verb(do, "do it", (arguments.option("--all"),), connects=False)}
    )
    with pytest.raises(SystemExit) as refused:
        word(["do", "--al", "x"])
    assert refused.value.code == 2


# --- where to, with which key -----------------------------------------------------------------------------------------


def test_a_key_never_travels_in_the_open() -> None:
    with pytest.raises(ConfigurationError, match="over https"):
        checked("http://voice.example.com")
    assert checked("http://127.0.0.1:8080/") == "http://127.0.0.1:8080"
    assert checked("http://[::1]:8080") == "http://[::1]:8080"


@pytest.mark.parametrize("url", ["voice.example.com", "ftp://x", "https://me:secret@x", "https://x?y"])
def test_what_is_no_origin_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        checked(url)
    assert "secret" not in str(refused.value)


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCARRIER_URL", "https://a.example.com")
    monkeypatch.setenv("ANYCARRIER_KEY", "from-the-environment")
    assert find_address().url == "https://a.example.com"
    assert find_address("https://b.example.com", "typed").key == "typed"


def test_the_local_servers_key_is_offered_to_the_local_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCARRIER_ADMIN_KEY", "of-this-machine")
    monkeypatch.setenv("ANYCARRIER_PORT", "9090")
    here = find_address()
    assert (here.url, here.key) == ("http://127.0.0.1:9090", "of-this-machine")
    assert find_address("http://127.0.0.1:9090/").key == "of-this-machine"
    assert find_address("https://elsewhere.example.com").key is None


def test_a_key_is_not_in_an_addresss_repr() -> None:
    assert "typed" not in repr(find_address("https://b.example.com", "typed"))


# --- what the server says ---------------------------------------------------------------------------------------------


def refusal(status: int, body: Any, **headers: str) -> Refused:
    with pytest.raises(Refused) as refused:
        read(httpx.Response(status, json=body, headers=headers))
    return refused.value


def test_complaints_name_their_places() -> None:
    found = refusal(422, {"detail": [{"loc": ["body", "to_number"], "msg": "no number", "type": "x"}]})
    assert (str(found), found.exit_code) == ("to_number: no number", 2)


def test_a_refusal_is_one_line_with_the_next_step() -> None:
    busy = refusal(429, {"detail": "too many calls", "code": "rate_limited"}, **{"Retry-After": "7"})
    assert (str(busy), busy.code, busy.exit_code) == ("too many calls. Try again in 7 s", "rate_limited", 1)
    assert "ANYCARRIER_KEY" in str(refusal(401, {"detail": "give a key"}))
    assert "(request r1)" in str(refusal(500, {"detail": "oops", "request_id": "r1"}))
    blocked = {"detail": {"error": "recipient_blocked", "reason": "blocked by a contact rule"}}
    assert str(refusal(403, blocked)) == "recipient_blocked: blocked by a contact rule"


def test_an_answer_that_is_no_json_is_still_an_answer() -> None:
    with pytest.raises(Refused, match="the server answered 502"):
        read(httpx.Response(502, text="<html>bad gateway</html>"))
    with pytest.raises(Refused, match="is it an anycarrier server"):
        read(httpx.Response(200, text="<html>welcome</html>"))
    assert read(httpx.Response(204)) is None


# --- waiting and clocks -----------------------------------------------------------------------------------------------


async def test_what_is_quick_is_not_announced_and_what_is_slow_is_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with working("thinking", patience=30):
        pass
    assert capsys.readouterr() == ("", "")
    async with working("thinking", patience=0), asyncio.timeout(30):
        while not (said := capsys.readouterr()).err:
            await asyncio.sleep(0)
    assert said == ("", "thinking ...\n")


NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ahead", "skew"),
    [(0.0, 0.0), (0.9, 0.0), (-0.05, 0.0), (90.5, 89.5), (-90.0, -89.9)],
)
def test_a_clock_is_off_by_what_the_dates_grain_and_the_way_do_not_explain(ahead: float, skew: float) -> None:
    before = NOON + timedelta(seconds=ahead)
    found = skew_of("Sat, 31 Jan 2026 12:00:00 GMT", before, before + timedelta(seconds=0.1))
    assert found == pytest.approx(skew)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sat, 31 Jan 2026 12:00:00"])
def test_a_date_that_cannot_be_read_is_no_skew(date: str | None) -> None:
    assert skew_of(date, NOON, NOON) is None
