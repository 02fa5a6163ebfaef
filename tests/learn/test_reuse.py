from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from learn.grown import CATEGORIES, EACH, counted, remote, texts_of, write_categories
from tiny import edit, put

from semroute.index import Artifact, open_artifact
from semroute.learn import fit
from semroute.learn.artifact import PROBES, with_thresholds
from semroute.learn.build import EncoderChoice, build_index
from semroute.text.asks import VAGUE_ASKS

DIMENSIONS = "dimensions"  # what a remote encoder asks for its vectors' length
ALWAYS_EMBEDDED = {*PROBES, *VAGUE_ASKS, DIMENSIONS}


class Given(NamedTuple):
    source: Path
    folder: Path
    choice: EncoderChoice

    def build(self, folder: Path | None = None, *, fresh: bool = False, head: bool = False) -> Artifact:
        built = build_index(self.source, folder or self.folder, encoder=self.choice, fresh=fresh, head=head)
        return built.artifact


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Given]:
    work = tmp_path_factory.mktemp("reuse")
    with remote() as choice:
        given = Given(write_categories(work / "categories"), work / "index", choice)
        given.build()
        yield given


@pytest.fixture
def given(built: Given, tmp_path: Path) -> Given:
    """The index and its categories, to change."""
    shutil.copytree(built.source, tmp_path / "categories")
    shutil.copytree(built.folder, tmp_path / "index")
    return Given(tmp_path / "categories", tmp_path / "index", built.choice)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return counted(monkeypatch)


def hashes(artifact: Artifact) -> dict[str, str]:
    return {role: entry.sha256 for role, entry in artifact.manifest.files.items()}


def all_examples() -> set[str]:
    return {text for category in CATEGORIES for text in texts_of(category, EACH)}


@pytest.mark.slow
def test_a_rebuild_embeds_no_example_and_gives_the_same_files(
    given: Given, embedded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_artifact(given.folder)
    monkeypatch.setattr(fit, "held_out_scores", lambda *_, **__: pytest.fail("a known fit is not made again"))
    after = given.build()
    assert set(embedded) == ALWAYS_EMBEDDED
    assert hashes(after) == hashes(before)
    assert replace(after.manifest, created="") == replace(before.manifest, created="")


@pytest.mark.slow
def test_a_build_into_an_empty_folder_gives_the_index_that_a_rebuild_gives(given: Given, tmp_path: Path) -> None:
    again, elsewhere = given.build(), given.build(tmp_path / "elsewhere")
    assert hashes(again) == hashes(elsewhere)
    assert again.manifest.categories == elsewhere.manifest.categories
    assert again.manifest.calibration == elsewhere.manifest.calibration
    assert again.manifest.ask_bar == elsewhere.manifest.ask_bar


@pytest.mark.slow
def test_a_rebuild_with_another_example_embeds_that_alone_and_equals_a_build_from_nothing(
    given: Given, embedded: list[str], tmp_path: Path
) -> None:
    with (given.source / "law.txt").open("a") as file:
        file.write("a lease of lawal and lawer\n")
    changed = given.build()
    assert set(embedded) == {*ALWAYS_EMBEDDED, "a lease of lawal and lawer"}
    assert hashes(changed) == hashes(given.build(tmp_path / "elsewhere"))


@pytest.mark.slow
def test_fresh_reuses_nothing(given: Given, embedded: list[str]) -> None:
    before = open_artifact(given.folder)
    after = given.build(fresh=True)
    assert {*embedded, DIMENSIONS} == {*ALWAYS_EMBEDDED, *all_examples()}
    assert hashes(after) == hashes(before)


@pytest.mark.slow
def test_another_fingerprint_embeds_all_anew(given: Given, embedded: list[str]) -> None:
    edit(given.folder, lambda manifest: manifest["encoder"].update(fingerprint="another"))
    given.build()
    assert all_examples() <= set(embedded)


@pytest.mark.slow
def test_another_model_behind_the_same_address_embeds_all_anew(given: Given, embedded: list[str]) -> None:
    # The fingerprint is the address; the probes show that other vectors come from it.
    edit(given.folder, lambda manifest: manifest["probes"][1].__setitem__(1, manifest["probes"][0][1]))
    given.build()
    assert all_examples() <= set(embedded)


@pytest.mark.slow
def test_an_index_without_probes_embeds_all_anew(given: Given, embedded: list[str]) -> None:
    edit(given.folder, lambda manifest: manifest.update(probes=[]))
    given.build()
    assert all_examples() <= set(embedded)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["vectors", "examples", "prototypes", "fit"])
def test_a_damaged_index_is_ignored_and_all_is_made_anew(given: Given, embedded: list[str], role: str) -> None:
    before = open_artifact(given.folder)
    path = before.files[role]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert hashes(given.build()) == hashes(before)
    assert all_examples() <= set(embedded)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x93NUMPY\x01\x00"], ids=["empty", "foreign", "cut"])
def test_invalid_vectors_are_computed_again_whatever_their_hash(
    given: Given, embedded: list[str], content: bytes
) -> None:
    before = hashes(open_artifact(given.folder))
    put(given.folder, "vectors", content)
    assert hashes(given.build()) == before
    assert all_examples() <= set(embedded)


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, 3.0])
def test_invalid_stored_vectors_are_computed_again(given: Given, embedded: list[str], value: float) -> None:
    before = open_artifact(given.folder)
    vectors = np.load(before.files["vectors"])
    vectors[7] = value
    path = given.folder.parent / "vectors.npy"
    np.save(path, vectors)
    put(given.folder, "vectors", path.read_bytes())
    assert hashes(given.build()) == hashes(before)
    assert all_examples() <= set(embedded)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive"])
def test_an_invalid_fit_record_is_ignored(given: Given, content: bytes) -> None:
    before = hashes(open_artifact(given.folder))
    put(given.folder, "fit", content)
    assert hashes(given.build()) == before


@pytest.mark.slow
def test_a_rebuild_takes_thresholds_from_the_files_not_from_tuning(given: Given) -> None:
    before = open_artifact(given.folder)
    with_thresholds(before, {"law": 0.99}, "out-of-scope")
    after = given.build().manifest
    assert after.categories == before.manifest.categories


@pytest.mark.slow
def test_other_settings_make_another_fit_and_a_head_is_taken_over_too(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    headed = given.build(head=True)
    assert headed.manifest.head == "mlp"
    monkeypatch.setattr(fit, "held_out_scores", lambda *_, **__: pytest.fail("a known fit is not made again"))
    assert hashes(given.build(head=True)) == hashes(headed)


@pytest.mark.slow
def test_an_index_of_before_the_record_is_rebuilt_with_its_vectors(given: Given, embedded: list[str]) -> None:
    before = hashes(open_artifact(given.folder))
    edit(given.folder, lambda manifest: manifest["files"].pop("fit"))
    assert hashes(given.build()) == before
    assert set(embedded) == ALWAYS_EMBEDDED


@pytest.mark.slow
def test_a_text_of_two_categories_is_embedded_once(given: Given, embedded: list[str]) -> None:
    for name in ("law", "code"):
        with (given.source / f"{name}.txt").open("a") as file:
            file.write("a contract for a program\n")
    given.build()
    assert embedded.count("a contract for a program") == 1
