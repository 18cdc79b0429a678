"""A bot for Twilio, as one finds them: a webhook that answers in TwiML, and a media stream. It repeats what it hears.

A key interrupts it; ``#`` says goodbye. Nothing in this file knows that there are other carriers.
"""

import asyncio
import base64
import json
import os
from collections import deque
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.twiml.voice_response import Connect, VoiceResponse

ACCOUNT, TOKEN = os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"]
CALLERS: dict[str, str] = {}


async def voice(request: Request) -> Response:
    form = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
    if not RequestValidator(TOKEN).validate(str(request.url), form, request.headers["x-twilio-signature"]):
        return Response("not Twilio", status_code=403)
    CALLERS[form["CallSid"]] = form["From"]
    answer = VoiceResponse()
    connect = Connect(action="/goodbye")
    stream = connect.stream(url=f"ws{str(request.base_url).removeprefix('http')}media")
    stream.parameter(name="caller", value=form["From"])
    answer.append(connect)
    return Response(str(answer), media_type="text/xml")


async def goodbye(request: Request) -> Response:
    answer = VoiceResponse()
    answer.pause(length=1)
    answer.hangup()
    return Response(str(answer), media_type="text/xml")


async def media(websocket: WebSocket) -> None:
    await websocket.accept()
    heard: deque[str] = deque(maxlen=50)  # the last second
    try:
        while True:
            message = json.loads(await websocket.receive_text())
            sid = message.get("streamSid")
            if message["event"] == "media":
                heard.append(message["media"]["payload"])
                if len(heard) == heard.maxlen:
                    audio = base64.b64encode(b"".join(map(base64.b64decode, heard))).decode()
                    heard.clear()
                    await websocket.send_json({"event": "media", "streamSid": sid, "media": {"payload": audio}})
                    await websocket.send_json({"event": "mark", "streamSid": sid, "mark": {"name": "repeated"}})
            elif message["event"] == "dtmf" and message["dtmf"]["digit"] == "#":
                await websocket.close()
                return
            elif message["event"] == "dtmf":
                heard.clear()
                await websocket.send_json({"event": "clear", "streamSid": sid})
            elif message["event"] == "stop":
                return
    except WebSocketDisconnect:
        pass


async def call(request: Request) -> Response:
    """``POST /call?to=+1...&from=+1...``: ring somebody."""
    client = Client(ACCOUNT, TOKEN)
    if url := os.environ.get("TWILIO_API_URL"):
        client.api.base_url = url  # the one line for a front; Twilio's SDK has no setting for it
    to, from_ = request.query_params["to"], request.query_params["from"]
    made = await asyncio.to_thread(client.calls.create, to=to, from_=from_, url=str(request.base_url) + "voice")
    return Response(made.sid)


app = Starlette(
    routes=[
        Route("/voice", voice, methods=["POST"]),
        Route("/goodbye", goodbye, methods=["POST"]),
        Route("/call", call, methods=["POST"]),
        WebSocketRoute("/media", media),
    ]
)
