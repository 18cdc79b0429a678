"""Instructions for a call (NCCO): what is well-formed, and what this sandbox does not simulate."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from anycarrier.testing.sandbox import may_stream_to

NOT_SIMULATED = {"conversation", "input", "notify", "pay", "stream", "talk", "transcribe", "transfer"}
CONTENT_TYPES = {"audio/l16;rate=8000": 8000, "audio/l16;rate=16000": 16000, "audio/l16;rate=24000": 24000}
NUMBER = re.compile(r"\d{7,15}")

CONNECT = {
    "action", "endpoint", "from", "randomFromNumber", "eventType", "timeout", "limit", "machineDetection",
    "advancedMachineDetection", "eventUrl", "eventMethod", "ringbackTone",
}  # fmt: skip
RECORD = {
    "action", "format", "split", "channels", "endOnSilence", "endOnKey", "timeOut", "beepStart", "eventUrl",
    "eventMethod", "transcription",
}  # fmt: skip
ENDPOINTS = {
    "websocket": {"type", "uri", "content-type", "headers", "authorization"},
    "phone": {"type", "number", "dtmfAnswer", "onAnswer", "shaken"},
    "sip": {"type", "uri", "headers", "standardHeaders"},
}


def faults(ncco: Any) -> list[str]:
    """What is wrong with it; nothing for instructions that will be carried out."""
    if not isinstance(ncco, list):
        return ["an NCCO is an array of actions"]
    return [fault for action in ncco for fault in faults_of(action)]


def faults_of(action: Any) -> list[str]:
    if not isinstance(action, dict):
        return ["an action is an object"]
    match action.get("action"):
        case "connect":
            return unknown(action, CONNECT) + faults_of_connect(action)
        case "wait":
            return unknown(action, {"action", "timeout"})
        case "record":
            return unknown(action, RECORD) + faults_of_record(action)
        case str(name) if name in NOT_SIMULATED:
            return [f"{name} is not simulated by this sandbox"]
        case name:
            return [f"{name!r} is no action"]


def unknown(given: Mapping[str, Any], known: set[str]) -> list[str]:
    return [f"{name} is not known here" for name in given if name not in known]


def faults_of_record(action: Mapping[str, Any]) -> list[str]:
    wrong = []
    if action.get("format", "mp3") != "wav":
        wrong.append("format: only wav is simulated by this sandbox")
    if action.get("split", "conversation") != "conversation":
        wrong.append("split must be conversation")
    if action.get("channels", 1) not in range(1, 33):
        wrong.append("channels must be 1 to 32")
    return wrong + url_faults(action)


def url_faults(action: Mapping[str, Any]) -> list[str]:
    urls = action.get("eventUrl", [])
    good = isinstance(urls, list) and all(urlsplit(str(url)).scheme in ("http", "https") for url in urls)
    return [] if good else ["eventUrl must be an array of URLs"]


def faults_of_connect(action: Mapping[str, Any]) -> list[str]:
    endpoints = action.get("endpoint")
    if not isinstance(endpoints, list) or len(endpoints) != 1 or not isinstance(endpoints[0], dict):
        return ["endpoint must be an array of one endpoint"]
    endpoint = endpoints[0]
    kind = endpoint.get("type")
    if kind not in ENDPOINTS:
        return [f"endpoint type {kind!r} is not simulated by this sandbox"]
    wrong = unknown(endpoint, ENDPOINTS[kind]) + url_faults(action)
    if "from" in action and not NUMBER.fullmatch(str(action["from"])):
        wrong.append("from must be a number in digits")
    if action.get("eventType", "synchronous") != "synchronous":
        wrong.append("eventType must be synchronous")
    match kind:
        case "phone" if not NUMBER.fullmatch(str(endpoint.get("number"))):
            wrong.append("number must be in digits, with the country code and without +")
        case "sip" if not str(endpoint.get("uri")).startswith(("sip:", "sips:")):
            wrong.append("uri must be a SIP URI")
        case "websocket":
            wrong += faults_of_socket(endpoint)
    return wrong


def faults_of_socket(endpoint: Mapping[str, Any]) -> list[str]:
    wrong = []
    if not may_stream_to(str(endpoint.get("uri"))):
        wrong.append("uri must be wss://")
    if endpoint.get("content-type") not in CONTENT_TYPES:
        wrong.append("content-type must be one of " + ", ".join(CONTENT_TYPES))
    headers = endpoint.get("headers", {})
    if not isinstance(headers, dict):
        wrong.append("headers must be an object")
    elif headers_length(headers) > 512:
        wrong.append("headers must be at most 512 bytes")
    return wrong


def headers_length(headers: Mapping[str, Any]) -> int:
    return len(json.dumps(headers, separators=(",", ":"), ensure_ascii=False).encode())
