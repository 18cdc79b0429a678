"""The files of hibari's voices: where they must be, whether they are whole, and loading them once per process.

hibari itself downloads a voice that is not there. Never here: somebody puts the file in place.
"""

from __future__ import annotations

import csv
import hashlib
import json
import threading
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from anycarrier.errors import SpeechFailed, UnknownVoice

DISTRIBUTION = "hibari-tts"
DEFAULT = "heart"
"""The one voice that is in the distribution."""

_loading = threading.Lock()
_models: dict[Path, Any] = {}
_readers: dict[bool, Any] = {}


def file_of(voice: str, folder: Path | None) -> Path:
    """The file of a voice. ``UnknownVoice`` if hibari has no such voice, or its file is not there."""
    known = _registry()
    if voice not in known:
        here = ", ".join(voices_here(folder))
        raise UnknownVoice("hibari", voice, f"Voices whose file is here: {here}. It has {', '.join(known)}")
    place = _place(voice, folder)
    if not place.exists() and voice != DEFAULT:
        raise UnknownVoice(
            "hibari",
            voice,
            f"Its file is expected at {place}. Run: {_download(voice, folder)}. "
            f"Voices whose file is here: {', '.join(voices_here(folder))}",
        )
    return place


def voices_here(folder: Path | None) -> list[str]:
    """Voices whose file is in place; whether it is whole is not known yet."""
    return [name for name in _registry() if _place(name, folder).exists()]


def has(voice: str, folder: Path | None) -> bool:
    """Whether :func:`file_of` finds the voice. Quick: no file is read. True if hibari itself is at fault."""
    try:
        known = import_module("hibari.voices").VOICES
    except (ImportError, OSError, ValueError):
        return True
    return voice in known and (voice == DEFAULT or _place(voice, folder).exists())


def load(voice: str, folder: Path | None) -> Any:
    """The model of a voice with its reading rules (``hibari.Hibari``). The first load takes about a second.

    Raises ``SpeechFailed`` if a file is missing, cut or altered, ``UnknownVoice`` as :func:`file_of`. Blocks.
    """
    with _loading:
        path = file_of(voice, folder)
        if path not in _models:
            _models[path] = _load(voice, path, folder)
        return _models[path]


def _load(voice: str, path: Path, folder: Path | None) -> Any:
    facts = _registry()[voice]
    if voice != DEFAULT:
        _verify(path, facts["bytes"], bytes.fromhex(facts["sha256"]), f"Run: {_download(voice, folder)}")
    british = bool(facts["british"])
    try:
        if british not in _readers:
            _readers[british] = import_module("hibari.g2p").G2P(british=british)
            _ = _readers[british].oov  # loaded with the first unknown word otherwise, in a call
        model = _model(voice, str(path), _readers[british])
        model("Hello.", seed=0)
    except Exception as failure:
        raise SpeechFailed(
            "hibari", "speak", f"{path} cannot be loaded: {type(failure).__name__}: {failure}", next_step=_reinstall()
        ) from failure
    return model


def _model(voice: str, path: str, reader: Any) -> Any:
    """hibari's object with another session: its own keeps the memory of the longest sentence that it ever read."""
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    module = import_module("hibari.tts")
    model = module.Hibari.__new__(module.Hibari)
    model.voice, model.model_path, model._g2p = voice, path, reader
    model.vocab = json.loads(Path(module.ASSETS, "vocab.json").read_text("utf-8"))
    model.sess = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return model


@cache
def _registry() -> Mapping[str, Mapping[str, Any]]:
    """The voices that hibari knows by name. The files of its distribution are verified before they are read."""
    verify_distribution()
    try:
        voices: Mapping[str, Mapping[str, Any]] = import_module("hibari.voices").VOICES
    except ImportError as failure:
        raise SpeechFailed("hibari", "speak", f"it cannot be imported: {failure}", next_step=_reinstall()) from failure
    return voices


def verify_distribution() -> None:
    """Compare each model, lexicon and table with the checksum that the wheel was installed with."""
    try:
        installed = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError as failure:
        raise SpeechFailed(
            "hibari", "speak", f"{DISTRIBUTION} is not installed", next_step=f"Run: pip install {DISTRIBUTION}"
        ) from failure
    for name, checksum, size in csv.reader((installed.read_text("RECORD") or "").splitlines()):
        if "/assets/" in name and checksum.startswith("sha256="):
            value = checksum.removeprefix("sha256=")
            expected = urlsafe_b64decode(value + "=" * (-len(value) % 4))
            _verify(Path(str(installed.locate_file(name))), int(size), expected, _reinstall())


def _verify(path: Path, size: int, sha256: bytes, next_step: str) -> None:
    try:
        found = path.read_bytes()
    except OSError as failure:
        why = f"{path} cannot be read ({failure.strerror})"
    else:
        sum_found = hashlib.sha256(found).digest()
        if sum_found == sha256:
            return
        why = f"{path} has {len(found):,} bytes" if len(found) != size else f"{path} was altered"
    expected = f"expected {size:,} bytes with the SHA-256 {sha256.hex()[:12]}..."
    raise SpeechFailed("hibari", "speak", f"{why}; {expected}", next_step=next_step)


def _place(voice: str, folder: Path | None) -> Path:
    names = import_module("hibari.voices")
    file: str = names.VOICES[voice]["file"]
    if voice == DEFAULT:
        return Path(names.ASSETS, file)
    return Path(folder or names.cache_dir(), file)


def _download(voice: str, folder: Path | None) -> str:
    where = f"HIBARI_HOME={folder} " if folder else ""
    return f'{where}hibari --voice {voice} -o test.wav "Hello"'


def _reinstall() -> str:
    try:
        version = f"=={metadata.version(DISTRIBUTION)}"
    except metadata.PackageNotFoundError:
        version = ""
    return f"Run: pip install --force-reinstall --no-deps {DISTRIBUTION}{version}"
