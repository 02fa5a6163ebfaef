from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semroute.errors import ArtifactBusyError, ArtifactError
from semroute.index import Calibration, CategoryEntry, Manifest, PrototypeIndex, open_artifact, write_artifact
from semroute.index.artifact import LOCK, exclusive
from semroute.index.manifest import MANIFEST

Write = Callable[[Path], Mapping[str, Path]]


def manifest(note: str = "first") -> Manifest:
    return Manifest(
        encoder={"kind": "none"},
        dimensions=2,
        categories={"code": CategoryEntry("", ("small",), 1, 1, 0.0, "in-scope")},
        head=None,
        weight=0.0,
        calibration=Calibration(0.0, 1.0, 1.0),
        validation={"note": note},
        probes=(),
        created="2026-01-01T00:00:00+00:00",
        built_with="0",
    )


def writer(text: str) -> Write:
    def write(staging: Path) -> Mapping[str, Path]:
        (staging / "examples.jsonl").write_text(json.dumps({"category": "code", "query": text}) + "\n")
        (staging / "vectors.npy").write_bytes(text.encode() * 100)
        return {"examples": staging / "examples.jsonl", "vectors": staging / "vectors.npy"}

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_artifact(tmp_path / "index", manifest(), writer("one"))
    return tmp_path / "index"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {LOCK}


def test_what_is_written_is_what_is_opened(folder: Path) -> None:
    artifact = open_artifact(folder)
    assert artifact.examples() == (["code"], ["one"])
    assert artifact.files["vectors"].read_bytes() == b"one" * 100
    assert replace(artifact.manifest, files={}) == manifest()


def test_a_file_is_named_by_its_hash_and_nothing_else_is_left(folder: Path) -> None:
    entries = open_artifact(folder).manifest.files.values()
    assert names(folder) == {MANIFEST, *(entry.name for entry in entries)}
    assert all(entry.sha256[:16] in entry.name for entry in entries)


@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), RuntimeError("bug"), OSError(errno.ENOSPC, "No space left on device")]
)
@pytest.mark.parametrize("staged", [False, True])
def test_a_build_that_fails_midway_leaves_the_old_artifact_and_nothing_else(
    folder: Path, failure: BaseException, staged: bool
) -> None:
    before = names(folder)

    def write(staging: Path) -> Mapping[str, Path]:
        if staged:
            writer("two")(staging)
        raise failure

    expected = ArtifactError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected, match="No space left on device" if isinstance(failure, OSError) else None):
        write_artifact(folder, manifest("second"), write)
    assert open_artifact(folder).examples()[1] == ["one"]
    assert names(folder) == before


def test_files_that_were_adopted_before_the_failure_are_taken_back(folder: Path) -> None:
    before = names(folder)

    def write(staging: Path) -> Mapping[str, Path]:
        return {**writer("two")(staging), "zz_missing": staging / "never_written"}

    with pytest.raises(ArtifactError, match="No such file"):
        write_artifact(folder, manifest("second"), write)
    assert names(folder) == before
    assert open_artifact(folder).manifest.validation == {"note": "first"}


def test_an_interrupt_while_the_manifest_is_replaced_leaves_the_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(folder)
    move = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == MANIFEST:
            raise KeyboardInterrupt
        return move(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_artifact(folder, manifest("second"), writer("two"))
    assert names(folder) == before
    assert open_artifact(folder).manifest.validation == {"note": "first"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("what", ["bytes", "numpy", "faiss"])
def test_a_full_disk_is_named_and_the_old_artifact_goes_on_serving(small_disk: Path, what: str) -> None:
    folder = small_disk / "index"
    write_artifact(folder, manifest(), writer("one"))
    before = names(folder)
    big = np.zeros((4000, 64), np.float32)

    def write(staging: Path) -> Mapping[str, Path]:
        path = staging / "prototypes.faiss"
        if what == "bytes":
            path.write_bytes(big.tobytes())
        elif what == "numpy":
            np.save(path.with_suffix(".npy"), big)
        else:
            PrototypeIndex.build(big, [4000]).write(path)
        return {"prototypes": path}

    with pytest.raises(ArtifactError, match="could not be written"):
        write_artifact(folder, manifest("second"), write)
    assert open_artifact(folder).examples()[1] == ["one"]
    assert names(folder) == before


@pytest.mark.parametrize("role", ["examples", "vectors"])
@pytest.mark.parametrize("harm", ["altered", "truncated", "emptied"])
def test_a_harmed_file_is_refused_and_named(folder: Path, role: str, harm: str) -> None:
    path = open_artifact(folder).files[role]
    content = bytearray(path.read_bytes())
    if harm == "altered":
        content[len(content) // 2] ^= 1
    path.write_bytes({"altered": bytes(content), "truncated": bytes(content[:-1]), "emptied": b""}[harm])
    with pytest.raises(ArtifactError, match=rf"{path.name}: altered or damaged.*build the index again"):
        open_artifact(folder)


@pytest.mark.parametrize("role", ["examples", "vectors"])
def test_a_missing_file_is_named(folder: Path, role: str) -> None:
    path = open_artifact(folder).files[role]
    path.unlink()
    with pytest.raises(ArtifactError, match=rf"{path.name}: missing"):
        open_artifact(folder)


def test_a_folder_in_place_of_a_file_is_an_error_of_the_tree(folder: Path) -> None:
    path = open_artifact(folder).files["vectors"]
    path.unlink()
    path.mkdir()
    with pytest.raises(ArtifactError, match="cannot be read"):
        open_artifact(folder)


def test_a_harmed_artifact_can_be_built_again_in_place(folder: Path) -> None:
    open_artifact(folder).files["vectors"].write_bytes(b"altered")
    write_artifact(folder, manifest("second"), writer("one"))
    assert open_artifact(folder).files["vectors"].read_bytes() == b"one" * 100


@pytest.mark.parametrize("damage", [b"", b'{"format": "semroute-index", "ver', b"\xff\xfe not json"])
def test_a_destroyed_manifest_beside_our_files_can_be_built_over(folder: Path, damage: bytes) -> None:
    (folder / MANIFEST).write_bytes(damage)
    with pytest.raises(ArtifactError, match="build the index again"):
        open_artifact(folder)
    write_artifact(folder, manifest("second"), writer("two"))
    assert open_artifact(folder).examples()[1] == ["two"]


@pytest.mark.parametrize(
    "content",
    [
        {"thesis.tex": "years of work"},
        {"manifest.json": '{"name": "my web page"}'},
        {"manifest.json": '{"name": "my web page"}', "index.html": "<html>"},
        {"manifest.json": "not even JSON"},
        {".git/config": "[core]"},
    ],
)
def test_a_folder_with_something_else_in_it_is_refused_and_untouched(tmp_path: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(ArtifactError, match=r"not empty, and not an index.*choose another folder"):
        write_artifact(tmp_path, manifest(), writer("one"))
    left = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == content


def test_what_a_user_put_beside_an_artifact_is_kept(folder: Path) -> None:
    (folder / "NOTES.md").write_text("mine")
    (folder / "sub").mkdir()
    for text in ("two", "three", "four"):
        write_artifact(folder, manifest(text), writer(text))
    assert (folder / "NOTES.md").read_text() == "mine"
    assert (folder / "sub").is_dir()


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("mine")
    with pytest.raises(ArtifactError, match="an index is a folder, and this is a file"):
        open_artifact(tmp_path / "index")
    for place in (tmp_path / "index", tmp_path / "index" / "below"):
        with pytest.raises(ArtifactError, match="cannot be made"):
            write_artifact(place, manifest(), writer("one"))
    assert (tmp_path / "index").read_text() == "mine"


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    write_artifact(tmp_path, manifest(), writer("one"))
    assert open_artifact(tmp_path).examples()[1] == ["one"]


def test_a_second_builder_is_refused_at_once_and_the_first_one_ends_well(folder: Path) -> None:
    writing, finish = threading.Event(), threading.Event()

    def slow(staging: Path) -> Mapping[str, Path]:
        writing.set()
        assert finish.wait(60)
        return writer("slow")(staging)

    thread = threading.Thread(target=write_artifact, args=(folder, manifest("slow"), slow))
    thread.start()
    try:
        assert writing.wait(20)
        with pytest.raises(ArtifactBusyError, match="another build is writing"):
            write_artifact(folder, manifest("second"), writer("two"))
        assert open_artifact(folder).examples()[1] == ["one"]
    finally:
        finish.set()
        thread.join()
    assert open_artifact(folder).examples()[1] == ["slow"]
    write_artifact(folder, manifest("third"), writer("three"))
    assert open_artifact(folder).examples()[1] == ["three"]


HANGING_BUILD = """
import sys, time
from pathlib import Path
from semroute.index import open_artifact, write_artifact
folder = Path(sys.argv[1])
def write(staging):
    (staging / "vectors.npy").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
write_artifact(folder, open_artifact(folder).manifest, write)
"""


@pytest.mark.slow
def test_another_process_blocks_until_it_is_killed_and_no_longer(folder: Path) -> None:
    before = names(folder)
    build = subprocess.Popen([sys.executable, "-c", HANGING_BUILD, str(folder)], stdout=subprocess.PIPE, text=True)
    with build:
        try:
            assert build.stdout is not None
            assert build.stdout.readline() == "writing\n"
            with pytest.raises(ArtifactBusyError):
                write_artifact(folder, manifest("second"), writer("two"))
        finally:
            os.kill(build.pid, signal.SIGKILL)
    assert open_artifact(folder).examples()[1] == ["one"]
    assert names(folder) > before  # the staging folder of the killed build
    write_artifact(folder, manifest(), writer("one"))
    assert names(folder) == before


def test_a_reader_of_the_old_manifest_finds_its_files_after_one_replacement(folder: Path) -> None:
    old = open_artifact(folder)
    write_artifact(folder, manifest("second"), writer("two"))
    assert old.examples()[1] == ["one"]
    assert open_artifact(folder).examples()[1] == ["two"]


def test_files_of_older_generations_are_removed(folder: Path) -> None:
    first = open_artifact(folder)
    for text in ("two", "three"):
        write_artifact(folder, manifest(text), writer(text))
    assert not any(path.exists() for path in first.files.values())
    assert len(names(folder)) == 1 + 2 * 2


def test_an_unchanged_file_is_kept_and_not_written_again(folder: Path) -> None:
    old = open_artifact(folder)
    inodes = {role: path.stat().st_ino for role, path in old.files.items()}
    changed = write_artifact(folder, manifest("second"), lambda staging: old.files)
    assert {role: path.stat().st_ino for role, path in changed.files.items()} == inodes
    assert open_artifact(folder).manifest.validation == {"note": "second"}


def test_a_file_from_elsewhere_is_copied_and_stays_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"graph")
    artifact = write_artifact(tmp_path / "index", manifest(), lambda staging: {"model": tmp_path / "encoder.onnx"})
    assert artifact.files["model"].read_bytes() == (tmp_path / "encoder.onnx").read_bytes() == b"graph"
    assert artifact.files["model"].parent == tmp_path / "index"


def test_a_reader_that_races_with_writers_sees_one_generation_whole(folder: Path) -> None:
    stop = threading.Event()

    def replace_often() -> None:
        count = 0
        while not stop.is_set():
            count += 1
            write_artifact(folder, manifest(f"text {count}"), writer(f"text {count}"))

    thread = threading.Thread(target=replace_often)
    thread.start()
    try:
        opened = 0
        for _ in range(40):
            try:
                artifact = open_artifact(folder)
                texts = artifact.examples()[1]
            except FileNotFoundError:
                continue  # replaced twice between opening and reading
            except ArtifactError as error:
                if "faster than it can be read" not in str(error):
                    raise
                continue
            assert texts in (["one"], [artifact.manifest.validation["note"]])
            opened += 1
    finally:
        stop.set()
        thread.join()
    assert opened > 0


def test_text_that_utf8_cannot_hold_survives(tmp_path: Path) -> None:
    entry = CategoryEntry("half a pair: \ud83d, and \u00fc", ("small",), 1, 1, 0.0, "in-scope")
    write_artifact(tmp_path, replace(manifest(), categories={"code": entry}), writer("one"))
    assert open_artifact(tmp_path).manifest.categories["code"] == entry


def test_what_was_made_from_an_artifact_that_has_been_replaced_is_not_written(folder: Path) -> None:
    first = open_artifact(folder).manifest
    second = write_artifact(folder, manifest("second"), writer("two")).manifest
    with pytest.raises(ArtifactError, match="replaced in the meantime"):
        write_artifact(folder, manifest("third"), writer("three"), replaces=first)
    assert open_artifact(folder).manifest == second
    third = write_artifact(folder, manifest("third"), writer("three"), replaces=second).manifest
    assert open_artifact(folder).manifest == third


def test_the_folder_can_be_kept_for_a_whole_build_and_written_within_it(folder: Path) -> None:
    with exclusive(folder):
        write_artifact(folder, manifest("second"), writer("two"))
        with ThreadPoolExecutor(1) as other, pytest.raises(ArtifactBusyError):
            other.submit(write_artifact, folder, manifest("third"), writer("three")).result()
    assert open_artifact(folder).examples()[1] == ["two"]
