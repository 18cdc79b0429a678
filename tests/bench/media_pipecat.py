"""pipecat in ``./dev bench media``: its own environment, made for the bench only, and its bridge of two transports.

The bridge is a FastAPI WebSocket transport with pipecat's Twilio serializer towards the carrier, a WebSocket client
transport towards the agent, and a pipeline in each direction.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

VERSION = "1.14.0"
NEEDS = (f"pipecat-ai[websocket]=={VERSION}", "uvicorn", "uvloop")


def installed_pipecat() -> tuple[str, str]:
    """The Python of an environment with pipecat, made if it is not there; else "" and why there is none."""
    folder = Path(tempfile.gettempdir()) / f"anycarrier-bench-pipecat-{VERSION}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"pipecat {VERSION}: making an environment for it", file=sys.stderr, flush=True)
        try:
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run(
                [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", *NEEDS],
                check=True, capture_output=True, text=True, timeout=600,
            )  # fmt: skip
        except subprocess.CalledProcessError as failure:
            return "", f"pipecat {VERSION} could not be installed: {str(failure.stderr).strip()[-200:]}"
        except (OSError, subprocess.TimeoutExpired) as failure:
            return "", f"pipecat {VERSION} could not be installed: {failure}"
        (folder / "complete").touch()
    return str(python), ""


async def pipecat(port: int, agent_port: int) -> Any:
    """Serve the bridge; runs in pipecat's own environment."""
    import base64

    from fastapi import FastAPI
    from loguru import logger  # type: ignore[import-not-found,unused-ignore]
    from pipecat.audio.utils import (  # type: ignore[import-not-found,unused-ignore]
        create_stream_resampler,
        pcm_to_ulaw,
        ulaw_to_pcm,
    )
    from pipecat.frames.frames import (  # type: ignore[import-not-found,unused-ignore]
        AudioRawFrame,
        InputAudioRawFrame,
        OutputAudioRawFrame,
    )
    from pipecat.pipeline.parallel_pipeline import ParallelPipeline  # type: ignore[import-not-found,unused-ignore]
    from pipecat.pipeline.pipeline import Pipeline  # type: ignore[import-not-found,unused-ignore]
    from pipecat.pipeline.worker import PipelineParams, PipelineWorker  # type: ignore[import-not-found,unused-ignore]
    from pipecat.processors.frame_processor import FrameProcessor  # type: ignore[import-not-found,unused-ignore]
    from pipecat.serializers.base_serializer import FrameSerializer  # type: ignore[import-not-found,unused-ignore]
    from pipecat.serializers.twilio import TwilioFrameSerializer  # type: ignore[import-not-found,unused-ignore]
    from pipecat.transports.websocket.client import (  # type: ignore[import-not-found,unused-ignore]
        WebsocketClientParams,
        WebsocketClientTransport,
    )
    from pipecat.transports.websocket.fastapi import (  # type: ignore[import-not-found,unused-ignore]
        FastAPIWebsocketParams,
        FastAPIWebsocketTransport,
    )
    from pipecat.workers.runner import WorkerRunner  # type: ignore[import-not-found,unused-ignore]
    from serving import HOST, UnknownCalls, serve_app
    from starlette.websockets import WebSocket

    logger.remove()
    logger.add(sys.stderr, level="ERROR")

    class AgentSerializer(FrameSerializer):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = create_stream_resampler(), create_stream_resampler()

        async def serialize(self, frame: Any) -> str | None:
            if not isinstance(frame, AudioRawFrame):
                return None
            sound = await pcm_to_ulaw(frame.audio, frame.sample_rate, 8000, self.down)
            return json.dumps({"event": "media", "media": {"payload": base64.b64encode(sound).decode()}})

        async def deserialize(self, data: str | bytes) -> Any:
            message = json.loads(data)
            if message.get("event") != "media":
                return None
            pcm = await ulaw_to_pcm(base64.b64decode(message["media"]["payload"]), 8000, 8000, self.up)
            return InputAudioRawFrame(audio=pcm, num_channels=1, sample_rate=8000)

    class Across(FrameProcessor):  # type: ignore[misc,unused-ignore]
        """What one transport hears is what the other says."""

        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, InputAudioRawFrame):
                frame = OutputAudioRawFrame(audio=frame.audio, sample_rate=8000, num_channels=1)
            await self.push_frame(frame, direction)

    sound = {
        "audio_in_enabled": True,
        "audio_out_enabled": True,
        "add_wav_header": False,
        "audio_out_10ms_chunks": 2,  # frames of 20 ms, like everybody's
        "audio_out_auto_silence": False,
    }

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        stream = ""
        while not stream:
            message = json.loads(await websocket.receive_text())
            stream = message["start"]["streamSid"] if message["event"] == "start" else ""
        twilio = TwilioFrameSerializer(stream, params=TwilioFrameSerializer.InputParams(auto_hang_up=False))
        carrier = FastAPIWebsocketTransport(websocket, FastAPIWebsocketParams(serializer=twilio, **sound))
        agent = WebsocketClientTransport(
            f"ws://{HOST}:{agent_port}/agent", WebsocketClientParams(serializer=AgentSerializer(), **sound)
        )
        worker = PipelineWorker(
            Pipeline(
                [
                    ParallelPipeline(
                        [carrier.input(), Across(), agent.output()],
                        [agent.input(), Across(), carrier.output()],
                    )
                ]
            ),
            params=PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000),
            enable_turn_tracking=False,
            enable_rtvi=False,
            idle_timeout_secs=None,
        )

        @carrier.event_handler("on_client_disconnected")  # type: ignore[untyped-decorator,unused-ignore]
        async def gone(transport: Any, client: Any) -> None:
            await worker.cancel()

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        await runner.run()

    talk.__annotations__["websocket"] = WebSocket  # FastAPI looks for the name among the module's, not here
    app = FastAPI()
    app.add_api_websocket_route("/media/{number}", talk)
    await serve_app(app, port)
    return UnknownCalls("/media/0")
