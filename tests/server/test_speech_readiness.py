"""Speech engines of the service: keys in settings and by workspace, and no call that is answered to be silent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr
from running import NUMBERS, SOMEBODY, Running, agent_server, never_too_late, running
from sqlalchemy import select, update
from tenants import Tenant

from anycarrier import hookimpl, plugins
from anycarrier.agent.shared_engines import Engines
from anycarrier.errors import SpeechFailed
from anycarrier.speech import EngineSettings, Hearing, Recognizer, SpeakingStyle, SpeechEngine, Synthesizer
from anycarrier_server.domain import agent_runtime
from anycarrier_server.domain.agent_runtime import WorkspaceEngines
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store
from anycarrier_server.store.models import EngineRow
from fake_speech import FakeEngine

KEY = "cloud-key-0123456789"


class CloudSettings(EngineSettings):
    for_workspaces = frozenset({"model"})

    api_key: SecretStr
    base_url: str = "https://cloud.example"
    model: str = "general"


class Cloud(FakeEngine):
    """Needs a key; ``used`` holds the keys and models calls were made with."""

    name: ClassVar[str] = "cloud"
    remote = True
    settings_type = CloudSettings
    used: ClassVar[list[tuple[str, str]]] = []
    broken: ClassVar[bool] = False

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(name="cloud", settings=settings)
        assert isinstance(settings, CloudSettings)
        self.set = settings

    async def start(self) -> None:
        if Cloud.broken:
            raise SpeechFailed("cloud", "speak", "its library is missing")

    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        Cloud.used.append((self.set.api_key.get_secret_value(), self.set.model))
        return await super().synthesizer(style)

    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        return await super().recognizer(hearing)


class Plugin:
    @hookimpl
    def anycarrier_speech_engines(self) -> list[type[SpeechEngine]]:
        return [Cloud]


@pytest.fixture(autouse=True)
def only_a_cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both carriers, one engine that needs a key, and none that works without."""
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "twilio,telnyx")
    plugins.reset()
    plugins.register(Plugin(), "a cloud")
    Cloud.used, Cloud.broken = [], False
    yield
    plugins.reset()


async def explained(at: Running, provider: str) -> dict[str, Any]:
    found: dict[str, Any] = await at.ask("GET", "/ops/route", params={"to": NUMBERS[provider]})
    return found


async def ended(at: Running, call: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = await at.until(
        f"/v1/calls/{call['call_id']}", lambda seen: seen["status"] in ("completed", "failed")
    )
    return done


# --- said at once -----------------------------------------------------------------------------------------------------


def spawn(work: Coroutine[Any, Any, Any], what: str) -> object:
    return asyncio.ensure_future(work)


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
async def test_an_agent_whose_engine_has_no_key_is_told_of_everywhere_and_its_calls_are_declined(
    provider: str, tmp_path: Path
) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip(provider, handler="repeat", synthesizer="cloud", recognizer="cloud")
        (warning,) = mine["agent"]["warnings"]
        assert "declined" in warning and "'cloud'" in warning and "api_key: Field required" in warning
        assert "anycarrier engines" in warning

        told = await explained(at, provider)
        assert told["outcome"] == "reject" and "api_key" in told["why"]

        checked = (await at.ask("GET", "/ops/checkup"))["items"]
        (finding,) = [one for one in checked if one["check"] == "agent"]
        assert finding["ok"] is False and finding["subject"] == mine["agent"]["id"] and "cloud" in finding["found"]

        ready = await at.ask("GET", "/readyz")
        assert ready["status"] == "degraded" and ready["problems"] == {} and "1 agent(s)" in ready["degraded"]["speech"]

        done = await ended(at, await at.ring(mine["number"]))
        assert (done["status"], done["end_reason"], done["answered_at"]) == ("failed", "agent_error", None)
        events = await at.until(
            f"/v1/calls/{done['id']}/events",
            lambda seen: any(one["event"] == "call.routed" for one in seen["items"]),
        )
        assert "api_key" in next(one["details"]["why"] for one in events["items"] if one["event"] == "call.routed")


async def test_a_language_that_no_engine_knows_is_told_of_everywhere_and_the_agents_calls_are_declined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cloud, "knows_language", lambda self, ability, language: language == "en")
    async with running(tmp_path, engines={"cloud": {"api_key": KEY}}) as at:
        mine = await at.equip("twilio", handler="repeat", language="de")
        (warning,) = mine["agent"]["warnings"]
        assert "listens in 'de' (asked: cloud)" in warning and "speaks in 'de'" in warning
        assert "Change the agent's setting language" in warning
        assert "'de'" in (await explained(at, "twilio"))["why"]
        findings = {one["check"]: one for one in (await at.ask("GET", "/ops/checkup"))["items"]}
        assert findings["agent"]["ok"] is False and "'de'" in findings["agent"]["found"]
        assert "1 agent(s)" in (await at.ask("GET", "/readyz"))["degraded"]["speech"]
        used = await at.ask("GET", f"/ops/agents/{mine['agent']['id']}/engines")
        assert [one["engine"] for one in used] == [None, None, "cloud"]
        done = await ended(at, await at.ring(mine["number"]))
        assert (done["end_reason"], done["answered_at"]) == ("agent_error", None)
        changed = await at.ask("PATCH", f"/v1/agents/{mine['agent']['id']}", json={"language": "en"})
        assert changed["warnings"] == []


class ByGrammar(SpeechEngine):
    name = "by-grammar"
    free_speech, obeys_grammar = False, True
    started: ClassVar[list[str]] = []

    async def start(self) -> None:
        ByGrammar.started.append(self.name)

    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        raise NotImplementedError


class Dictation(ByGrammar):
    name = "dictation"
    rank, free_speech, obeys_grammar = 10, True, False


class LocalPlugin:
    @hookimpl
    def anycarrier_speech_engines(self) -> list[type[SpeechEngine]]:
        return [ByGrammar, Dictation]


@pytest.mark.parametrize(
    ("spoken", "started"), [({"grammar": "#JSGF V1.0;"}, "by-grammar"), ({"phrases": ["yes"]}, "dictation")]
)
async def test_a_service_starts_only_the_recognizer_that_its_agents_need(
    spoken: dict[str, Any], started: str, store: Store, tenant: Tenant
) -> None:
    plugins.register(LocalPlugin(), "local engines")
    ByGrammar.started = []
    await store.agents.change(tenant.agent.id, settings=spoken)
    engines = WorkspaceEngines(store, Engines(), longest_call=600, spawn=spawn)
    await engines.keep_ready([])
    await engines.shared.settled()
    assert ByGrammar.started == [started]
    await engines.shared.aclose()


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
async def test_nobody_is_rung_for_an_agent_that_could_not_speak(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip(provider, handler="repeat", synthesizer="nowhere")
        asked = {"agent_id": mine["agent"]["id"], "from_number": mine["number"], "to_number": SOMEBODY}
        refused = await at.ask("POST", "/v1/calls", 409, json=asked)
        assert refused["code"] == "speech_not_ready" and "nowhere" in refused["detail"]
        body = {"from_number": mine["number"], "to_number": SOMEBODY}
        refused = await at.ask("POST", "/api/v1/phone/place-call", 409, json=body)
        assert refused["detail"]["error"] == "speech_not_ready"
        assert (await at.ask("GET", "/v1/calls"))["total"] == 0
        assert (await at.ask("GET", "/v1/usage"))["calls_made_today"] == 0


async def test_a_scheduled_call_whose_agent_has_lost_its_engine_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_too_late(monkeypatch)
    async with running(tmp_path) as at:
        mine = await at.equip("twilio", handler="repeat", synthesizer="nowhere")
        due = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        asked = {"agent_id": mine["agent"]["id"], "from_number": mine["number"], "to_number": SOMEBODY}
        made = await at.ask("POST", "/v1/calls", 201, json={**asked, "scheduled_at": due})
        await at.until(f"/v1/calls/{made['id']}", lambda seen: seen["status"] == "failed")
        row = await at.service.store.calls.find(made["id"])
        assert row is not None and row.carrier_id is None
        assert row.error is not None and row.error["type"] == "SpeechNotReady" and "nowhere" in row.error["message"]


async def test_the_fallback_or_the_voicemail_message_takes_the_call(tmp_path: Path) -> None:
    async with running(tmp_path, engines={"cloud": {"api_key": KEY}}) as at:
        mine = await at.equip("telnyx", handler="listen", recognizer="nowhere")
        assert (await explained(at, "telnyx"))["outcome"] == "reject"
        path = f"/v1/agents/{mine['agent']['id']}"
        await at.ask("PATCH", path, json={"voicemail_message": "Please call again."})
        assert (await explained(at, "telnyx"))["outcome"] == "answer"
        done = await ended(at, await at.ring(mine["number"]))
        assert done["end_reason"] == "agent_error"
        assert (await at.until(f"/v1/calls/{done['id']}", lambda seen: bool(seen["messages"])))["messages"] == [
            {"role": "agent", "content": "Please call again."}
        ]
        second = await at.ask("POST", "/v1/agents", 201, json={"name": "Second", "handler": "listen"})
        await at.ask("PATCH", path, json={"fallback_agent_id": second["id"]})
        assert "Second" in (await explained(at, "telnyx"))["why"]
        rung = await at.ring(mine["number"])
        seen = await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "in_progress")
        assert seen["agent_id"] == second["id"]
        await at.ask("POST", f"/v1/calls/{rung['call_id']}/stop")


async def test_an_agent_with_a_socket_is_in_doubt_until_it_says_that_it_does_its_own_speech(tmp_path: Path) -> None:
    headers = {"X-Use-Inkbox-Text-To-Speech": "false", "X-Use-Inkbox-Speech-To-Text": "false"}
    async with running(tmp_path) as at, agent_server() as leaves_it, agent_server(headers=headers) as does_it:
        mine = await at.equip("twilio", leaves_it.url)
        assert "unless it does its own speech" in mine["agent"]["warnings"][0]
        assert (await at.ask("GET", "/readyz"))["status"] == "ready"
        done = await ended(at, await at.ring(mine["number"]))
        assert (done["end_reason"], len(leaves_it.calls)) == ("agent_error", 1)
        await at.ask("PATCH", f"/v1/agents/{mine['agent']['id']}", json={"websocket_url": does_it.url})
        rung = await at.ring(mine["number"])
        async with asyncio.timeout(30):
            await does_it.arrived.wait()
        await at.ask("POST", f"/v1/calls/{rung['call_id']}/stop")


async def test_an_engine_that_does_not_start_is_told_when_an_agent_is_given_it(tmp_path: Path) -> None:
    Cloud.broken = True
    async with running(tmp_path, engines={"cloud": {"api_key": KEY}}) as at:
        await at.service.resources.engines.keep_ready(at.service.settings.engines)
        made = await at.ask("POST", "/v1/agents", 201, json={"name": "A", "handler": "listen", "recognizer": "cloud"})
        assert "does not start" in made["warnings"][0] and "its library is missing" in made["warnings"][0]


async def test_a_misspelt_setting_of_the_service_is_logged_with_the_variable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, engines={"cloud": {"api_key": KEY, "modle": "x"}}) as at:
        await at.service.resources.engines.keep_ready(at.service.settings.engines)
    assert "ANYCARRIER_ENGINES__CLOUD__" in caplog.text and "did you mean 'model'?" in caplog.text


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys_come_from_the_environment_or_a_table_and_are_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "anycarrier.toml").write_text('[engines.cloud]\napi_key = "from-the-file"\nmodel = "telephone"\n')
    monkeypatch.chdir(tmp_path)
    assert Settings().engines == {"cloud": {"api_key": "from-the-file", "model": "telephone"}}
    monkeypatch.setenv("ANYCARRIER_ENGINES__CLOUD__API_KEY", "012345678901")
    settings = Settings()
    assert settings.engines == {"cloud": {"api_key": "012345678901", "model": "telephone"}}
    assert "012345678901" not in repr(settings)


async def test_a_key_in_the_settings_makes_the_engine_everybodys(tmp_path: Path) -> None:
    async with running(tmp_path, engines={"cloud": {"api_key": KEY}}) as at:
        mine = await at.equip("telnyx", handler="listen", first_message="Hello there.")
        assert mine["agent"]["warnings"] == []
        (engine,) = await at.ask("GET", "/ops/engines")
        assert (engine["ready"], engine["by_service"], engine["default_for"]) == (
            True, True, ["detect", "listen", "speak"],
        )  # fmt: skip
        assert KEY not in str(engine)
        rung = await at.ring(mine["number"])
        await at.until(f"/sandbox/calls/{rung['call_id']}", lambda seen: seen["heard_seconds"] > 0)
        await at.ask("POST", f"/v1/calls/{rung['call_id']}/stop")
        assert (KEY, "general") in Cloud.used


async def test_a_workspaces_key_is_sealed_never_shown_and_used_for_its_agents_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio", handler="listen", first_message="Hello there.")
        assert mine["agent"]["warnings"] != []
        made = await at.ask("PATCH", "/ops/engines/cloud", json={"settings": {"api_key": f" {KEY}\n"}})
        assert made["settings"] == {"api_key": "…6789"} and made["ready"]
        assert (await at.ask("GET", f"/v1/agents/{mine['agent']['id']}"))["warnings"] == []
        await at.ask("PATCH", "/ops/engines/cloud", json={"settings": {"model": "telephone"}})
        async with at.service.store.db.read() as session:
            (row,) = await session.scalars(select(EngineRow))
        assert KEY.encode() not in row.sealed and KEY not in str(row.shown)

        other = await at.service.store.workspaces.create("other")
        theirs = await at.service.resources.engines.of(other.id)
        ours = await at.service.resources.engines.of(row.workspace_id)
        assert theirs.problem("speak", "cloud") is not None and ours.problem("speak", "cloud") is None
        assert theirs.default("speak") is None and ours.default("speak") == "cloud"

        rung = await at.ring(mine["number"])
        await at.until(f"/sandbox/calls/{rung['call_id']}", lambda seen: seen["heard_seconds"] > 0)
        await at.ask("POST", f"/v1/calls/{rung['call_id']}/stop")
        assert set(Cloud.used) == {(KEY, "telephone")}

        await at.ask("DELETE", "/ops/engines/cloud", 204)
        await at.ask("DELETE", "/ops/engines/cloud", 404)
        assert (await explained(at, "twilio"))["outcome"] == "reject"


async def test_a_key_that_the_cloud_refuses_is_told_with_the_engines_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(self: Cloud, style: SpeakingStyle | None = None) -> Synthesizer:
        raise SpeechFailed("cloud", "speak", "HTTP 401", next_step="Check the API key.")

    async with running(tmp_path, engines={"cloud": {"api_key": KEY}}) as at:
        assert await at.ask("POST", "/ops/engines/cloud/verify") == {"ok": True, "name": "cloud", "error": None}
        monkeypatch.setattr(Cloud, "synthesizer", refused)
        told = await at.ask("POST", "/ops/engines/cloud/verify")
        assert told["error"] == "cloud failed to speak: HTTP 401. Check the API key."
        (finding,) = [one for one in (await at.ask("GET", "/ops/checkup"))["items"] if one["check"] == "engine"]
        assert finding["ok"] is False and finding["found"] == told["error"]
        await at.ask("POST", "/ops/engines/nowhere/verify", 404)


async def test_each_workspaces_calls_use_its_own_key(tmp_path: Path) -> None:
    async with running(tmp_path, engines={"cloud": {"api_key": "the-services-own-key"}}) as at:
        store = at.service.store
        other = await store.workspaces.create("other")
        await at.ask("PATCH", "/ops/engines/cloud", json={"settings": {"api_key": KEY}})
        first = await store.workspaces.first()
        assert first is not None
        for workspace in (first.id, other.id):
            engine = (await at.service.resources.engines.of(workspace)).engine("cloud")
            await engine.synthesizer()
        assert [key for key, _ in Cloud.used] == [KEY, "the-services-own-key"]


@pytest.mark.parametrize(
    ("name", "settings", "status", "says"),
    [
        ("cloud", {"model": "x"}, 422, "cloud: Field required"),
        ("cloud", {"api_key": "two words"}, 422, "no key has"),
        ("cloud", {"api_key": "half\u200ba-key"}, 422, "no key has"),
        ("cloud", {"api_key": 12345}, 422, "no key has"),
        ("cloud", {"api_key": KEY, "modell": "x"}, 422, "no such setting (settable: api_key, model)"),
        ("cloud", {"api_key": KEY, "base_url": "http://169.254.169.254"}, 422, "ANYCARRIER_ENGINES__CLOUD__BASE_URL"),
        ("nowhere", {"api_key": KEY}, 404, "'nowhere' is installed"),
    ],
)
async def test_wrong_settings_are_refused_with_the_engines_name_and_without_the_key(
    name: str, settings: dict[str, Any], status: int, says: str, tmp_path: Path
) -> None:
    async with running(tmp_path) as at:
        refused = await at.ask("PATCH", f"/ops/engines/{name}", status, json={"settings": settings})
        assert says in str(refused) and KEY not in str(refused)
        assert [one["settings"] for one in await at.ask("GET", "/ops/engines")] == [{}]


@pytest.mark.parametrize(("longest", "closed"), [(600.0, []), (-60.0, ["engine"])])
async def test_calls_in_progress_keep_the_engine_that_they_began_with(
    longest: float, closed: list[str], store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_runtime, "FRESH", 600)  # a second, which a slow machine may need for the next line
    shared = Engines()
    engines = WorkspaceEngines(store, shared, longest_call=longest, spawn=spawn)
    secret, whose = frozenset({"api_key"}), tenant.workspace.id
    await store.engines.put(whose, "cloud", {"api_key": "the-first-0123456789"}, secret)
    first = (await engines.of(whose)).engine("cloud")
    await store.engines.put(whose, "cloud", {"api_key": "the-second-0123456789"}, secret)
    assert (await engines.of(whose)).engine("cloud") is first, "for a while"
    engines.changed(whose)
    second = (await engines.of(whose)).engine("cloud")
    assert isinstance(first, Cloud) and isinstance(second, Cloud)
    assert second.set.api_key.get_secret_value() == "the-second-0123456789"
    for _ in range(5):
        await asyncio.sleep(0)
    assert (first.closed, second.closed) == (closed, [])
    await engines.aclose()
    assert (first.closed, second.closed) == (["engine"], ["engine"])


async def test_settings_under_a_lost_master_key_are_not_replaced_by_the_services(store: Store, tenant: Tenant) -> None:
    await store.engines.put(tenant.workspace.id, "cloud", {"api_key": KEY}, frozenset({"api_key"}))
    async with store.db.write() as session:
        await session.execute(update(EngineRow).values(sealed=b"damaged"))
    shared = Engines({"cloud": {"api_key": KEY}})
    own = await WorkspaceEngines(store, shared, longest_call=600, spawn=spawn).of(tenant.workspace.id)
    assert own.problem("speak", "cloud") is not None


async def test_a_workspace_without_settings_of_its_own_shares_the_services_engine(tmp_path: Path) -> None:
    async with running(tmp_path, engines={"cloud": {"api_key": KEY}}) as at:
        for settings in ({"model": "telephone"}, {"model": None}, {}):
            await at.ask("PATCH", "/ops/engines/cloud", json={"settings": settings})
        shared, own = at.service.agents.engines, await at.service.resources.engines.of(await first_workspace(at))
        assert own.engine("cloud") is shared.engine("cloud")


async def test_an_agents_key_neither_sees_nor_sets_engines(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        row = await at.service.store.agents.create((await first_workspace(at)), name="A")
        _, secret = await at.service.store.keys.create(row.workspace_id, "its own", agent_id=row.id)
        as_agent = {"Authorization": f"Bearer {secret}"}
        await at.ask("GET", "/ops/engines", 403, headers=as_agent)
        await at.ask("PATCH", "/ops/engines/cloud", 403, headers=as_agent, json={"settings": {"api_key": KEY}})


async def first_workspace(at: Running) -> Any:
    found = await at.service.store.workspaces.first()
    assert found is not None
    return found.id
