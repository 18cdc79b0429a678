"""Settings: placeholders and end-call phrases."""

import pytest
from pydantic import ValidationError

from anycarrier import EndReason
from anycarrier.agent.settings import AgentSettings, fill


def test_placeholders_are_filled_and_the_missing_ones_named() -> None:
    text, missing = fill("Hi {{name}}, order {{ order_id }} {{gone}}.", {"name": "Sama", "order_id": 7})
    assert (text, missing) == ("Hi Sama, order 7 .", ["gone"])


def test_a_value_cannot_smuggle_in_a_placeholder() -> None:
    assert fill("{{name}}", {"name": "{{system_prompt}}", "system_prompt": "secret"})[0] == "{{system_prompt}}"


@pytest.mark.parametrize(
    ("said", "ends"),
    [("Okay, Good-bye then.", True), ("good bye", True), ("goodbyes are hard", False), ("the good byeline", False)],
)
def test_end_call_phrases_match_words(said: str, ends: bool) -> None:
    settings = AgentSettings(end_call_phrases=("good bye", "!"))
    assert settings.ends_call(said) is (EndReason.END_CALL_PHRASE if ends else None)


def test_unknown_settings_are_an_error_not_ignored() -> None:
    with pytest.raises(ValidationError):
        AgentSettings.model_validate({"first_mesage": "typo"})
