"""Settings: where they come from, what is local, and the page that documents them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from anycarrier.errors import ConfigurationError
from anycarrier_server.settings import Settings, page
from anycarrier_server.settings_checks import in_words

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_needs_to_be_set() -> None:
    settings = Settings()
    assert settings.database_url == "sqlite:///data/anycarrier.db"
    assert settings.origin == "http://127.0.0.1:8080"
    assert settings.is_local


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "anycarrier.toml").write_text('port = 1111\nhost = "::1"\nallow = ["US"]\n')
    monkeypatch.setenv("ANYCARRIER_PORT", "2222")
    settings = Settings()
    assert (settings.port, settings.host, settings.allow) == (2222, "::1", ["US"])
    assert Settings(port=3333).port == 3333


def test_a_named_file_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCARRIER_CONFIG", "/nowhere/anycarrier.toml")
    with pytest.raises(ConfigurationError, match="no such file"):
        Settings()


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADMIN_KEY", "MASTER_KEY", "ALLOW", "MAX_CONCURRENT", "PORT"):
        monkeypatch.setenv(f"ANYCARRIER_{name}", "")
    assert Settings() == Settings.model_construct()


def test_a_misspelt_name_in_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "anycarrier.toml").write_text('denny = ["GB"]\n')
    with pytest.raises(ConfigurationError, match="no setting is called denny"):
        Settings()


@pytest.mark.parametrize(
    ("host", "public_url", "local"),
    [
        ("127.0.0.1", "", True),
        ("::1", "http://localhost:8080", True),
        ("127.0.0.1", "https://calls.example.com", False),
        ("0.0.0.0", "", False),
        ("0.0.0.0", "http://127.0.0.1:8080", False),
        ("::", "", False),
    ],
)
def test_local_is_only_where_nobody_else_can_reach(host: str, public_url: str, local: bool) -> None:
    assert Settings(host=host, public_url=public_url).is_local is local


def test_local_can_be_said() -> None:
    assert Settings(host="0.0.0.0", local=True).is_local


def test_an_admin_key_that_can_be_guessed_is_for_this_machine_only() -> None:
    Settings.model_validate({"admin_key": "short"})
    for reached in ({"public_url": "https://voice.example.com"}, {"host": "0.0.0.0"}):
        with pytest.raises(ValidationError, match="can be guessed") as refused:
            Settings.model_validate({"admin_key": "short", **reached})
        assert "short" not in str(refused.value).replace("shorter", "")
        Settings.model_validate({"admin_key": "x" * 16, **reached})
    Settings.model_validate({"admin_key": "short", "host": "0.0.0.0", "local": True})


def test_a_wrong_value_does_not_print_the_key() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"admin_key": "top-secret", "port": "no"})
    assert "top-secret" not in str(refused.value)


def test_the_settings_page_is_fresh() -> None:
    assert (DOCS / "settings.md").read_text() == page(), "run: python -m anycarrier_server.settings > docs/settings.md"


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["US,+4930, sip:pbx.example.com", '["US", "+4930", "sip:pbx.example.com"]'])
def test_a_list_is_written_with_commas_or_as_json(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCARRIER_ALLOW", written)
    monkeypatch.setenv("ANYCARRIER_OUTWARD_ALLOW", "10.1.0.0/16,fd00::/8")
    settings = Settings()
    assert settings.allow == ["US", "+4930", "sip:pbx.example.com"]
    assert settings.outward_allow == ["10.1.0.0/16", "fd00::/8"]


@pytest.mark.parametrize("written", ["desk=agents:desk, bot=agents:bot", '{"desk":"agents:desk","bot":"agents:bot"}'])
def test_a_table_is_written_as_pairs_or_as_json(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCARRIER_HANDLERS", written)
    assert Settings().handlers == {"desk": "agents:desk", "bot": "agents:bot"}


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("ANYCARRIER_CALL_PER_DAY", "did you mean ANYCARRIER_CALLS_PER_DAY?"),
        ("ANYCARRIER_DENNY", "did you mean ANYCARRIER_DENY?"),
        ("ANYCARRIER_DATABASE_URL", "did you mean ANYCARRIER_DATABASE?"),
        ("anycarrier_denny", "did you mean ANYCARRIER_DENY?"),
        ("ANYCARRIER_PLUGIN", "did you mean ANYCARRIER_PLUGINS?"),
        ("ANYCARRIER_FOO", "unset it"),
        ("ANYCARRIER_PORT__X", "did you mean ANYCARRIER_PORT?"),
        ("ANYCARRIER_ENGINE__DEEPGRAM__API_KEY", "did you mean ANYCARRIER_ENGINES__DEEPGRAM__API_KEY?"),
        ("ANYCARRIER_SIP_RTP_PORTS", "did you mean ANYCARRIER_CARRIERS__SIP__RTP_PORTS?"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused_with_the_near_one(
    variable: str, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigurationError, match="no setting is called") as refused:
        Settings()
    assert variable in str(refused.value) and near in str(refused.value)


def test_variables_of_ours_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "CI PYTHON VENV PLUGINS URL KEY SECRET SHARED LIVE_ACME TEST_NUMBER ENGINES__DEEPGRAM__API_KEY".split()
    kubernetes = "SERVICE_HOST SERVICE_PORT_HTTP PORT_8080_TCP PORT_8080_TCP_ADDR".split()
    for name in (*ours, *kubernetes):
        monkeypatch.setenv(f"ANYCARRIER_{name}", "")
    Settings()


def test_a_misspelt_name_in_the_file_has_the_near_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "anycarrier.toml").write_text("call_per_day = 10\n")
    with pytest.raises(ConfigurationError, match=r"call_per_day \(in anycarrier.toml\): did you mean calls_per_day\?"):
        Settings()


def test_a_settings_file_that_cannot_be_read_is_said_to_be_that(tmp_path: Path) -> None:
    path = tmp_path / "anycarrier.toml"
    path.write_bytes('allow = ["M\u00fcnchen"]'.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        Settings()
    path.write_text("port = ")
    with pytest.raises(ConfigurationError, match="not TOML"):
        Settings()
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("allow", ["us"], "did you mean 'US'?"),
        ("deny", ["4420"], r"did you mean '+4420'?"),
        ("allow", "['US']", "write US,+4930"),
        ("handlers", "desk", "write name=value"),
        ("database", "postgresql://me:s3cret@db.example:54e2/calls", "port is not a number"),
        ("database", "postgresql://me:s3cret@db.example:0/calls", "port is not a number"),
        ("database", "postgresql://me:s3/cret@db.example:5432/calls", "/ as %2F"),
        ("database", "mysql://me:s3cret@db.example/calls", "'mysql'"),
        ("database", "nonsense", "postgresql://user:password@host/name"),
        ("outward_allow", ["10.0.0.1/8"], "did you mean '10.0.0.0/8'?"),
        ("outward_allow", ["nonsense"], "write it like 10.1.0.0/16"),
        ("base_urls", ["pbx.example.com:8088"], "http://pbx.example.com:8088"),
        ("base_urls", ["http://me:s3cret@pbx.example.com"], "user or password"),
        ("public_url", "https://me:s3cret@voice.example.com", "user or password"),
        ("public_url", "https://voice.example.com:99999", "port"),
        ("public_url", "https://voice.example.com/?a=b", "query"),
        ("public_url", "voice.example.com", "https://voice.example.com"),
        ("otlp_endpoint", "collector:4318", "http://collector:4318/v1/traces"),
        ("otlp_endpoint", "https://", "name a host"),
        ("minutes_per_day", "inf", "finite"),
        ("minutes_per_day", float("nan"), "finite"),
        ("minutes_per_day", -1, "0"),
        ("drain_seconds", "inf", "finite"),
        ("data_dir", "~nobody-of-that-name/data", "user that is not there"),
    ],
)
def test_a_value_that_can_do_nothing_is_refused_and_no_secret_shown(name: str, value: object, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({name: value})
    (error,) = refused.value.errors()
    assert error["loc"] == (name,) and "s3cret" not in str(refused.value)
    assert told in in_words(error) or told in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["sqlite:///calls.db", "postgresql://me:p%40ss@[::1]:5432/calls?ssl=require", "postgresql+asyncpg://db.example/calls",
     "postgresql:///calls?host=/run/postgresql"],
)  # fmt: skip
def test_database_urls_that_work_are_taken(url: str) -> None:
    assert Settings(database=url).database_url == url


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"port": "many"}, "must be a whole number"),
        ({"port": 70000}, "must be 65535 or less"),
        ({"drain_seconds": "soon"}, "must be a number"),
        ({"webhook_timeout": 0}, "must be more than 0"),
        ({"sandbox": "perhaps"}, "must be true or false"),
        ({"log_level": "loud"}, "must be one of debug, info, warning, error"),
        ({"allow": 7}, "must be a list"),
        ({"engines": "deepgram"}, "must be a table"),
        ({"allow": [7]}, "must be text"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(given)
    assert in_words(refused.value.errors()[0]) == words
