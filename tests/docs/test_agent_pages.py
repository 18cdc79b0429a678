"""docs/agents.md, docs/speech.md and docs/service.md list what the code has: settings, messages, engines, paths."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from anycarrier.agent import admission, agent_socket, bridge, budget, protocol
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.budget import BUFFER
from anycarrier.agent.conversation import AgentChannel
from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.shared_engines import Engines
from anycarrier.speech import TurnSettings, get_speech_engine, speech_engine_names
from anycarrier_server.app import faces
from anycarrier_server.domain.agent_runtime import BUILT_IN
from docs.test_written_pages import rows

DOCS = Path(__file__).resolve().parents[2] / "docs"
AGENTS, SPEECH, SERVICE = (DOCS / f"{name}.md" for name in ("agents", "speech", "service"))


def names(page: Path, heading: str) -> list[str]:
    return [cells[0].strip("`") for cells in rows(page, heading)]


def as_json(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


# --- agents ----------------------------------------------------------------------------------------------------------


def test_every_setting_is_told_with_its_default() -> None:
    told = [(cells[0].strip("`"), cells[1].strip("`")) for cells in rows(AGENTS, "setting | default | does")]
    defaults = AgentSettings()
    assert told == [
        (name, as_json(float(getattr(defaults, name)) if field.annotation is float else getattr(defaults, name)))
        for name, field in AgentSettings.model_fields.items()
    ]


def test_every_message_we_send_is_told() -> None:
    source = inspect.getsource(protocol).partition("# --- from us to the agent")[2].partition("# --- from the agent")[0]
    sent = set(re.findall(r'"event": ?"(\w+)"', source)) | set(re.findall(r'"event":"(\w+)"', source))
    assert set(names(AGENTS, "event | when | fields")) == sent
    assert len(sent) == 8


def test_every_message_we_read_is_told() -> None:
    read = set(re.findall(r'"(\w+)"', " ".join(re.findall(r"case (.*):", inspect.getsource(protocol.read)))))
    assert set(names(AGENTS, "event | does | fields")) == read - {"textStream"}  # its early spelling, read all the same


def test_the_four_modes_are_told_with_their_headers() -> None:
    heading = "`X-Use-Inkbox-Text-To-Speech` | `X-Use-Inkbox-Speech-To-Text` | the agent receives | the agent sends"
    told = rows(AGENTS, heading)
    assert [(cells[0], cells[1]) for cells in told] == [
        (f"`{tts}`", f"`{stt}`") for tts in ("true", "false") for stt in ("true", "false")
    ]
    for tts, stt, receives, sends in told:
        mode = protocol.Mode.from_headers({protocol.TTS_HEADER: tts.strip("`"), protocol.STT_HEADER: stt.strip("`")})
        assert ("transcript" in receives, "media" in receives) == (mode.stt, not mode.stt)
        assert ("text" in sends, "media" in sends) == (mode.tts, not mode.tts)


def test_the_limits_told_are_those_in_the_code() -> None:
    text = " ".join(AGENTS.read_text().split())
    assert f"within {agent_socket.OPEN_TIMEOUT:.0f} s" in text
    assert f"All in {admission.PATIENCE:.0f} s" in text
    assert f"more than {BUFFER:.0f} s ahead, and more than {bridge.BACKLOG:,} characters" in text
    assert 9.5 < agent_socket.SLOW / 16_000 < 10.5  # frames of base64 in JSON: about 16 kB a second
    assert agent_socket.STALLED == 10
    told = rows(AGENTS, "an agent may send | at any time | and at once | enough for")
    rates = {**budget.MESSAGES, "rows": budget.ROWS, "characters": budget.CHARACTERS, "dropped": budget.DROPPED}
    figures = {name: (f"{rate.per_second:,} a second", f"{rate.burst:,}") for name, rate in rates.items()}
    assert {re.findall(r"`(\w+)`", cells[0])[0]: tuple(cells[1:3]) for cells in told} == figures
    assert f"each {budget.BYTES} bytes" in text and f"{budget.TURNS:,} turns" in text
    assert f"no more than {budget.WORKSPACE_BURSTS} of them" in text
    assert protocol.MAX_MESSAGE == 1024 * 1024
    assert "over 1 MiB" in text


def test_everything_an_agent_can_do_on_a_call_is_told() -> None:
    told = {word for cells in rows(AGENTS, "on the call | does") for word in re.findall(r"`(\w+)", cells[0])}
    inner = {*vars(AgentChannel), "leaving", "converse", "greeted", "conversation"}
    public = {name for name, _ in inspect.getmembers(AgentCall) if not name.startswith("_")} - inner
    assert public | {"variables", "settings", "session"} == told


# --- speech ----------------------------------------------------------------------------------------------------------


ENGINE_ROWS = "engine | plugin | abilities | languages | purpose"


def test_every_engine_is_told_with_what_it_can_do() -> None:
    told = {cells[0].strip("`"): set(re.findall(r"\w+", cells[2])) for cells in rows(SPEECH, ENGINE_ROWS)}
    assert told == {name: set(get_speech_engine(name).abilities) for name in speech_engine_names()}


def test_the_engines_that_send_audio_elsewhere_are_named() -> None:
    told = {cells[0].strip("`") for cells in rows(SPEECH, ENGINE_ROWS) if "leaves this machine" in cells[4]}
    assert told == {name for name in speech_engine_names() if get_speech_engine(name).remote}


def test_the_engines_that_are_used_unnamed_are_told() -> None:
    told = [
        [re.search(r"`(\w+)`", cell).group(1) for cell in cells[1:]]  # type: ignore[union-attr]
        for cells in rows(SPEECH, "agent | speaks with | listens with")
    ]
    agents = [
        AgentSettings(),
        AgentSettings(grammar="..."),
        AgentSettings(phrases=("yes",)),
        AgentSettings(voice="en-us+f2"),
    ]
    engines = Engines()
    assert told[:4] == [[engines.default(ability, agent) for ability in ("speak", "listen")] for agent in agents]
    assert told[4][0] == engines.default("speak", AgentSettings(language="de"))


def test_the_settings_of_turn_taking_are_told_with_their_defaults() -> None:
    told = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(SPEECH, "setting | default | means")}
    defaults = TurnSettings()
    assert told == {name: as_json(getattr(defaults, name)) for name in TurnSettings.__dataclass_fields__}


# --- service ---------------------------------------------------------------------------------------------------------


def test_every_face_is_told_with_its_prefix() -> None:
    told = set(re.findall(r"`(/[\w/]+)`", " ".join(cells[0] for cells in rows(SERVICE, "path | purpose"))))
    assert told >= {face.prefix for face in faces(sandbox=True)}


def test_the_sandboxes_control_paths_are_told() -> None:
    sandbox = next(face for face in faces(sandbox=True) if face.name == "sandbox")
    told = {tuple(cells[0].strip("`").split(" ")) for cells in rows(SERVICE, "sandbox | does")}
    assert told == {(endpoint.method, endpoint.path) for endpoint in sandbox.endpoints}


def test_the_built_in_handlers_are_named() -> None:
    text = SERVICE.read_text()
    assert all(f"`{name}`" in text for name in BUILT_IN)
