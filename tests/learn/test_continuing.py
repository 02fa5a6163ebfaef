from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from learn.grown import CATEGORIES, EACH, counted, remote, texts_of, write_categories

from semroute.cli.index import validated
from semroute.encoders.remote import RemoteEncoder
from semroute.index import Artifact, open_artifact
from semroute.learn import fit
from semroute.learn.artifact import PROBES, embed, with_thresholds
from semroute.learn.build import build_index
from semroute.learn.near_twins import near_twins
from semroute.learn.reuse import FitRecord, HeldOutRows, stored_scorer
from semroute.learn.update import Changed, add_examples, remove_category, remove_examples, stored_examples
from semroute.types import Encoder

pytestmark = pytest.mark.slow

NEW = texts_of("law", 3, seed=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Encoder]]:
    work = tmp_path_factory.mktemp("continuing")
    with remote() as choice:
        build_index(write_categories(work / "categories"), work / "index", encoder=choice)
        assert choice.base_url is not None
        encoder = RemoteEncoder(choice.base_url, choice.model)
        yield work / "index", encoder
        encoder.close()


@pytest.fixture
def encoder(built: tuple[Path, Encoder]) -> Encoder:
    return built[1]


@pytest.fixture
def artifact(built: tuple[Path, Encoder], tmp_path: Path) -> Artifact:
    shutil.copytree(built[0], tmp_path / "index")
    return open_artifact(tmp_path / "index")


@pytest.fixture
def no_full_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "held_out_scores", lambda *_, **__: pytest.fail("this change needs no full fit"))


@pytest.fixture
def full_fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of examples of every full fit from here on; without heads, which take seconds."""
    seen: list[int] = []
    scores = fit.held_out_scores

    def counting(vectors, labels, plan, **settings):  # type: ignore[no-untyped-def]
        seen.append(len(labels))
        return scores(vectors, labels, plan, **{**settings, "head": None})

    monkeypatch.setattr(fit, "held_out_scores", counting)
    return seen


def accuracy(artifact: Artifact, encoder: Encoder) -> float:
    scorer = stored_scorer(artifact)
    assert scorer is not None
    hits = [
        scorer.scores(encoder.encode(texts_of(name, 60, seed=9))).argmax(axis=1) == number
        for number, name in enumerate(CATEGORIES)
    ]
    return float(np.mean(hits))


@pytest.mark.usefixtures("no_full_fit")
def test_a_few_new_examples_of_many_are_embedded_alone_and_fitted_without_a_full_fit(
    artifact: Artifact, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = accuracy(artifact, encoder)
    embedded = counted(monkeypatch)
    changed = add_examples(artifact, encoder, "law", NEW)
    assert sorted(embedded) == sorted([*NEW, *PROBES])
    after = open_artifact(artifact.folder)
    assert changed.artifact.manifest == after.manifest
    report = after.manifest.validation
    assert (after.manifest.categories["law"].examples, report["examples"]) == (EACH + 3, 3 * EACH + 3)
    assert report["changed_since_full_fit"] == 3
    assert "3 examples changed since the last full fit" in validated(after.manifest)
    assert accuracy(after, encoder) >= before - 0.02


@pytest.mark.usefixtures("no_full_fit")
def test_prototypes_and_groups_are_those_of_a_full_fit_with_the_same_choice(
    artifact: Artifact, encoder: Encoder
) -> None:
    twin = texts_of("law", 1)[0].upper() + "."
    changed = add_examples(artifact, encoder, "law", [*NEW, twin]).artifact
    examples, vectors = stored_examples(changed)
    record = FitRecord.read(changed)
    assert record is not None
    np.testing.assert_array_equal(record.groups, near_twins(examples.texts, examples.labels, np.array(vectors)))
    # The twin joins the held-out row of its group; each of the others has one of its own.
    old = FitRecord.read(artifact)
    assert old is not None
    assert len(record.held.labels) == len(old.held.labels) + 3
    assert record.groups.max() + 1 == old.groups.max() + 1 + 3
    for name in ("code", "cooking"):
        assert changed.manifest.categories[name].prototypes == artifact.manifest.categories[name].prototypes


@pytest.mark.usefixtures("no_full_fit")
def test_the_same_change_gives_the_same_files(artifact: Artifact, encoder: Encoder, tmp_path: Path) -> None:
    shutil.copytree(artifact.folder, tmp_path / "again")
    first = add_examples(artifact, encoder, "law", NEW).artifact
    again = add_examples(open_artifact(tmp_path / "again"), encoder, "law", NEW).artifact
    assert first.manifest.files == again.manifest.files
    assert first.manifest.categories == again.manifest.categories


@pytest.mark.usefixtures("no_full_fit")
def test_removing_a_few_examples_needs_no_full_fit_and_drops_their_held_out_rows(
    artifact: Artifact, encoder: Encoder
) -> None:
    gone = texts_of("code", 2)
    changed = remove_examples(artifact, encoder, "code", gone).artifact
    old, new = FitRecord.read(artifact), FitRecord.read(changed)
    assert old is not None
    assert new is not None
    assert len(new.held.labels) == len(old.held.labels) - 2
    assert new.changed == {"code": 2}
    assert not set(gone) & set(stored_examples(changed)[0].texts)


@pytest.mark.usefixtures("no_full_fit")
def test_pinned_thresholds_stay_and_tuned_ones_are_named(artifact: Artifact, encoder: Encoder) -> None:
    artifact = with_thresholds(artifact, {"law": 0.0}, "file")
    artifact = with_thresholds(artifact, {"code": 0.77}, "out-of-scope")
    changed: Changed = add_examples(artifact, encoder, "law", NEW)
    entries = changed.artifact.manifest.categories
    assert (entries["law"].threshold, entries["law"].threshold_from) == (0.0, "file")
    assert changed.untuned == ("code",)
    assert entries["code"].threshold_from == "in-scope"


def test_changes_add_up_until_a_full_fit_is_due(artifact: Artifact, encoder: Encoder, full_fits: list[int]) -> None:
    texts = texts_of("law", 15, seed=2)
    for start in range(0, 12, 3):  # 12 of 600 are 1 in 50
        artifact = add_examples(artifact, encoder, "law", texts[start : start + 3]).artifact
    assert full_fits == []
    assert artifact.manifest.validation["changed_since_full_fit"] == 12
    artifact = add_examples(artifact, encoder, "law", texts[12:]).artifact
    assert full_fits == [615]
    assert "changed_since_full_fit" not in artifact.manifest.validation
    record = FitRecord.read(artifact)
    assert record is not None
    assert record.changed == {}


def test_a_new_or_removed_category_needs_a_full_fit(artifact: Artifact, encoder: Encoder, full_fits: list[int]) -> None:
    grown = add_examples(artifact, encoder, "sport", ["who won the match", "offside rule", "marathon shoes"]).artifact
    assert full_fits == [604]  # the name of a category with so few counts
    remove_category(grown, encoder, "sport")
    assert full_fits == [604, 600]


def test_an_index_without_a_record_gets_a_full_fit(artifact: Artifact, encoder: Encoder, full_fits: list[int]) -> None:
    bare = {role: entry for role, entry in artifact.manifest.files.items() if role != "fit"}
    kept = {role: path for role, path in artifact.files.items() if role in bare}
    old = Artifact(artifact.folder, artifact.manifest, kept)
    assert FitRecord.read(old) is None
    add_examples(old, encoder, "law", NEW)
    assert full_fits == [603]


def test_held_out_rows_keep_best_scores_and_own_ones() -> None:
    random = np.random.default_rng(0)
    for categories in (1, 2, 3, 7):
        scores = random.random((50, categories)).astype(np.float32)
        scores[:5] = 0.5  # ties
        labels = random.integers(categories, size=50)
        found = HeldOutRows.of(scores, labels, np.arange(50)).matrix(categories)
        rows = np.arange(50)
        np.testing.assert_array_equal(found.argmax(axis=1), scores.argmax(axis=1))
        np.testing.assert_array_equal(found[rows, labels], scores[rows, labels])
        np.testing.assert_array_equal(np.sort(found, axis=1)[:, -2:], np.sort(scores, axis=1)[:, -2:])


def test_each_text_is_embedded_once(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = counted(monkeypatch)
    known = {"known": encoder.encode(["known"])[0]}
    embedded.clear()
    found = embed(encoder, ["one", "known", "one", "two"], known_vectors=known)
    assert embedded == ["one", "two"]
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], known["known"])
