"""Agents: every setting in and out, other generations' spellings, and what we have no use for said so."""

from __future__ import annotations

from typing import Any

import pytest
from house import House

from anycarrier.agent.settings import AgentSettings
from anycarrier.speech import speech_engine_names


async def test_only_a_name_is_needed_and_every_setting_is_shown_at_its_default(house: House) -> None:
    made = await house.ask("POST", "/v1/agents", 201, json={"name": "Aria"})
    assert made["id"].startswith("agt_")
    standard = AgentSettings().model_dump(mode="json") | {"silence_timeout_seconds": 10}
    assert standard.items() <= made.items()
    assert (made["name"], made["ignored"], made["llm_id"]) == ("Aria", [], None)
    assert await house.ask("GET", f"/v1/agents/{made['id']}") == made
    assert made in (await house.ask("GET", "/v1/agents"))["items"]


async def test_settings_are_merged_and_null_goes_back_to_the_default(house: House) -> None:
    first = {
        "name": "Aria",
        "handler": "listen",
        "first_message": "Hi {{customer_name}}",
        "end_call_phrases": ["goodbye", "bye now"],
        "max_duration_seconds": 300,
        "dynamic_variables": {"company": "Acme"},
        "metadata": {"team": 7},
    }
    made = await house.ask("POST", "/v1/agents", 201, json=first)
    assert first.items() <= made.items()
    path = f"/v1/agents/{made['id']}"
    changed = await house.ask("PATCH", path, json={"language": "de", "max_duration_seconds": None, "handler": None})
    assert changed["language"] == "de"
    assert changed["max_duration_seconds"] == AgentSettings().max_duration_seconds
    assert changed["handler"] is None
    assert changed["first_message"] == first["first_message"]
    assert changed["end_call_phrases"] == first["end_call_phrases"]


async def test_silence_ends_calls_after_ten_seconds_unless_the_agent_says_otherwise_or_listens_itself(
    house: House,
) -> None:
    async def limit(**body: Any) -> tuple[str, float | None]:
        made = await house.ask("POST", "/v1/agents", 201, json={"name": "Aria", **body})
        return made["id"], made["silence_timeout_seconds"]

    hosted, seconds = await limit(handler="listen")
    assert seconds == 10
    assert (await limit(silence_timeout_seconds=None))[1] is None
    assert (await limit(silence_timeout_seconds=25))[1] == 25
    assert (await limit(websocket_url=house.line.url))[1] is None
    assert (await limit(websocket_url=house.line.url, silence_timeout_seconds=4))[1] == 4
    path = f"/v1/agents/{hosted}"
    assert (await house.ask("PATCH", path, json={"language": "de"}))["silence_timeout_seconds"] == 10
    assert (await house.ask("PATCH", path, json={"silence_timeout_seconds": None}))["silence_timeout_seconds"] is None


async def test_the_prompt_an_agent_is_handed_is_shown_as_its_effective_one(house: House) -> None:
    body = {"name": "Aria", "llm": {"system_prompt": "Be kind."}, "effective_system_prompt": "Be rude."}
    made = await house.ask("POST", "/v1/agents", 201, json=body)
    assert (made["effective_system_prompt"], made["ignored"]) == ("Be kind.", ["effective_system_prompt"])


async def test_other_spellings_are_read_and_what_has_no_use_here_is_named(house: House) -> None:
    body = {
        "name": "Aria",
        "tts": {"provider": "elevenlabs", "voice_id": "en-gb", "speed": 1.2, "stability": 0.3},
        "transcriber": {"provider": "deepgram", "model": "nova", "language": "fr"},
        "llm": {"system_prompt": "Be kind.", "temperature": 0.1},
        "background_sound": "office",
        "responsiveness": 0.7,
    }
    made = await house.ask("POST", "/v1/agents", 201, json=body)
    assert (made["voice"], made["speed"], made["language"]) == (None, 1.2, "fr")
    assert made["system_prompt"] == "Be kind."
    assert sorted(made["ignored"]) == [
        "background_sound", "llm.temperature", "responsiveness", "transcriber.model", "transcriber.provider",
        "tts.provider", "tts.stability", "tts.voice_id",
    ]  # fmt: skip


async def test_a_voice_is_taken_unless_it_is_another_providers(house: House) -> None:
    async def voice(**tts: Any) -> str | None:
        made = await house.ask("POST", "/v1/agents", 201, json={"name": "Aria", "tts": tts})
        assert ("tts.voice_id" in made["ignored"]) == (made["voice"] is None)
        return made["voice"]

    assert await voice(voice_id="en-us+f2") == "en-us+f2"
    if "hibari" in speech_engine_names():
        assert await voice(voice_id="heart") == "heart"
        assert await voice(voice_id="heart", provider="hibari") == "heart"
        assert await voice(voice_id="en-us+f2", provider="hibari") is None, "a voice of another engine"
    assert await voice(voice_id="21m00Tcm4TlvDq8ikWAM", provider="elevenlabs") is None
    if "espeak" in speech_engine_names():
        assert await voice(voice_id="en-us+f2", provider="espeak") == "en-us+f2"


@pytest.mark.skipif("espeak" not in speech_engine_names(), reason="needs the local speech engines")
async def test_a_voice_that_the_engine_here_has_not_is_told_where_it_is_set(house: House) -> None:
    refused = await house.ask("POST", "/v1/agents", 422, json={"name": "Aria", "voice": "klingon-9"})
    assert "no voice 'klingon-9'" in str(refused) and "en-us+f2" in str(refused)
    assert "name that one in synthesizer" in str(refused)
    made = await house.ask("POST", "/v1/agents", 201, json={"name": "Aria", "voice": "en-us+f2"})
    path = f"/v1/agents/{made['id']}"
    await house.ask("PATCH", path, 422, json={"voice": "klingon-9"})
    assert (await house.ask("GET", path))["voice"] == "en-us+f2"
    # In another provider's spelling it is the id of a voice of theirs: such a client goes on working.
    kept = await house.ask("PATCH", path, json={"tts": {"voice_id": "21m00Tcm4TlvDq8ikWAM", "speed": 1.5}})
    assert (kept["voice"], kept["speed"], kept["ignored"]) == ("en-us+f2", 1.5, ["tts.voice_id"])


@pytest.mark.skipif("espeak" not in speech_engine_names(), reason="needs the local speech engines")
async def test_a_provider_that_is_an_engine_of_this_machine_speaks(house: House) -> None:
    async def made(**tts: Any) -> Any:
        return await house.ask("POST", "/v1/agents", 201, json={"name": "Aria", "tts": tts})

    agent = await made(provider="espeak", voice_id="en-us+f2")
    assert (agent["synthesizer"], agent["voice"], agent["ignored"]) == ("espeak", "en-us+f2", [])
    path = f"/v1/agents/{agent['id']}"
    for provider in ("elevenlabs", "deepgram", "whisper"):
        agent = await made(provider=provider, voice_id="zoe")
        assert (agent["synthesizer"], agent["voice"]) == (None, None)
        assert agent["ignored"] == ["tts.provider", "tts.voice_id"]
    ours = {"synthesizer": None, "tts": {"provider": "espeak"}}
    assert (await house.ask("PATCH", path, json=ours))["synthesizer"] is None, "the contract's own name counts"


@pytest.mark.skipif(
    not {"espeak", "hibari"} <= set(speech_engine_names()), reason="needs hibari and the local speech engines"
)
async def test_an_agent_with_a_voice_of_the_lower_ranked_engine_is_spoken_by_it(house: House) -> None:
    used = {}
    for voice in (None, "heart", "en-us+f2"):
        agent = await house.ask("POST", "/v1/agents", 201, json={"name": "Aria", "voice": voice})
        told = await house.ask("GET", f"/ops/agents/{agent['id']}/engines")
        used[voice] = next(choice["engine"] for choice in told if choice["ability"] == "speak")
    assert used == {None: "hibari", "heart": "hibari", "en-us+f2": "espeak"}


async def test_whoever_writes_a_voicemail_message_wants_it_left_unless_said_otherwise(house: House) -> None:
    left = await house.ask("POST", "/v1/agents", 201, json={"name": "A", "voicemail_message": "Call us."})
    assert left["on_voicemail"] == "leave_message"
    said = {"name": "A", "voicemail_message": "Call us.", "on_voicemail": "ignore"}
    assert (await house.ask("POST", "/v1/agents", 201, json=said))["on_voicemail"] == "ignore"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"speed": 9}, "speed"),
        ({"speed": "1"}, "speed"),
        ({"interruption_sensitivity": 1.5}, "interruption_sensitivity"),
        ({"end_call_phrases": "bye"}, "end_call_phrases"),
        ({"on_voicemail": "panic"}, "on_voicemail"),
        ({"dynamic_variables": {"who": ["x"]}}, "dynamic_variables"),
        ({"handler": "os:system"}, "handler"),
        ({"websocket_url": "wss://192.168.0.1/agent"}, "url"),
        ({"websocket_url": "https://example.com"}, "url"),
    ],
)
async def test_an_agent_that_cannot_be_is_refused(house: House, change: dict[str, Any], where: str) -> None:
    refused = await house.ask("POST", "/v1/agents", 422, json={"name": "Aria", **change})
    assert refused["detail"][0]["loc"][:2] == ["body", where]
    made = await house.ask("POST", "/v1/agents", 201, json={"name": "Aria"})
    await house.ask("PATCH", f"/v1/agents/{made['id']}", 422, json=change)
    assert await house.ask("GET", f"/v1/agents/{made['id']}") == made


async def test_a_fallback_agent_must_exist(house: House) -> None:
    body = {"name": "Aria", "fallback_agent_id": "agt_00000000000000000000000000000000"}
    await house.ask("POST", "/v1/agents", 404, json=body)


async def test_an_agent_with_a_number_stays_and_one_without_goes(house: House) -> None:
    agent_id = await house.agent()
    number = await house.number("telnyx", agent_id)
    refused = await house.ask("DELETE", f"/v1/agents/{agent_id}", 409)
    assert (refused["code"], number["id"] in refused["detail"]) == ("agent_in_use", True)
    await house.ask("DELETE", f"/v1/phone-numbers/{number['id']}", 204)
    await house.ask("DELETE", f"/v1/agents/{agent_id}", 204)
    await house.ask("GET", f"/v1/agents/{agent_id}", 404)
