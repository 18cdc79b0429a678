"""Settings: where they come from, what is local, and the page that documents them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from linecard.errors import ConfigurationError
from linecard.server.settings import Settings, page

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_needs_to_be_set() -> None:
    settings = Settings()
    assert settings.database_url == "sqlite:///data/linecard.db"
    assert settings.origin == "http://127.0.0.1:8080"
    assert settings.is_local


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "linecard.toml").write_text('port = 1111\nhost = "::1"\nallow = ["US"]\n')
    monkeypatch.setenv("LINECARD_PORT", "2222")
    settings = Settings()
    assert (settings.port, settings.host, settings.allow) == (2222, "::1", ["US"])
    assert Settings(port=3333).port == 3333


def test_a_named_file_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINECARD_CONFIG", "/nowhere/linecard.toml")
    with pytest.raises(ConfigurationError, match="no such file"):
        Settings()


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADMIN_KEY", "MASTER_KEY", "ALLOW", "MAX_CONCURRENT", "PORT"):
        monkeypatch.setenv(f"LINECARD_{name}", "")
    assert Settings() == Settings.model_construct()


def test_a_misspelt_name_in_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "linecard.toml").write_text('denny = ["GB"]\n')
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
    assert (DOCS / "settings.md").read_text() == page(), "run: python -m linecard.server.settings > docs/settings.md"


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
