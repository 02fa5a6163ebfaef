from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semroute.encoders.onnx import OnnxEncoder
from semroute.errors import DataError
from semroute.index import Artifact, open_artifact
from semroute.learn.artifact import PROBES, with_thresholds
from semroute.learn.update import TUNED_NOTE, add_examples, remove_category, remove_examples
from semroute.router import Router
from semroute.router.load import TRIAL_TEXTS, open_encoder
from semroute.types import Encoder, Matrix

SPORT = ["who won the football match", "how does offside work", "best shoes for a marathon"]


@pytest.fixture
def artifact(own_index: Path) -> Artifact:
    return open_artifact(own_index)


NAMES = [text for name in ("code", "cooking", "law") for text in (name, f"about {name}")]
"""Names and descriptions, which count among so few examples."""


@pytest.fixture
def encoder(artifact: Artifact) -> Encoder:
    return open_encoder(artifact)


@pytest.fixture
def embedded(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that the encoder is given from here on."""
    seen: list[str] = []
    encode = OnnxEncoder.encode

    def counting(self: OnnxEncoder, texts: Sequence[str]) -> Matrix:
        seen.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(OnnxEncoder, "encode", counting)
    return seen


@pytest.mark.slow
def test_a_new_category_routes_and_only_its_texts_are_embedded(
    artifact: Artifact, encoder: Encoder, embedded: list[str]
) -> None:
    before = np.load(artifact.files["vectors"])
    changed = add_examples(artifact, encoder, "sport", SPORT, description="games", models=["tiny"])
    assert sorted(embedded) == sorted([*SPORT, *PROBES, *NAMES, "sport", "games"])
    assert changed.added == 3
    entry = changed.artifact.manifest.categories["sport"]
    assert (entry.description, entry.models, entry.examples) == ("games", ("tiny",), 3)
    after = np.load(changed.artifact.files["vectors"])
    assert np.array_equal(after[: len(before)], before)
    assert Router.load(artifact.folder).route("football match result").categories[0].category == "sport"


def test_a_changed_index_verifies_and_keeps_other_categories(artifact: Artifact, encoder: Encoder) -> None:
    add_examples(artifact, encoder, "code", ["rename a git branch"])
    reopened = open_artifact(artifact.folder)
    assert reopened.manifest.categories["code"].examples == artifact.manifest.categories["code"].examples + 1
    for name in artifact.manifest.categories:
        old, new = artifact.manifest.categories[name], reopened.manifest.categories[name]
        assert (old.description, old.models) == (new.description, new.models)
    assert reopened.manifest.encoder == artifact.manifest.encoder
    assert reopened.manifest.validation["changes"] == 1


@pytest.mark.slow
def test_adding_and_removing_again_gives_the_same_scores(artifact: Artifact, encoder: Encoder) -> None:
    before = Router.load(artifact.folder).route("can I freeze soup")
    grown = add_examples(artifact, encoder, "sport", SPORT).artifact
    remove_category(grown, encoder, "sport")
    after = Router.load(artifact.folder).route("can I freeze soup")
    assert [(c.category, c.score) for c in after.categories] == [(c.category, c.score) for c in before.categories]


def test_removing_embeds_nothing_but_names(artifact: Artifact, encoder: Encoder, embedded: list[str]) -> None:
    changed = remove_examples(artifact, encoder, "law", ["do I need a will"])
    assert set(embedded) == {*PROBES, *NAMES}
    assert changed.removed == 1
    owners, texts = changed.artifact.examples()
    assert "do I need a will" not in texts
    assert owners.count("law") == 5
    assert np.load(changed.artifact.files["vectors"]).shape[0] == len(texts)


def test_existing_examples_are_skipped_and_those_of_other_categories_reported(
    artifact: Artifact, encoder: Encoder
) -> None:
    texts = ["is my lease binding", " recipe for carrot soup ", "recipe for carrot soup"]
    changed = add_examples(artifact, encoder, "law", texts)
    assert changed.added == 1
    assert changed.skipped == ("is my lease binding",)
    assert changed.elsewhere == (("recipe for carrot soup", "cooking"),)


def test_a_pinned_threshold_stays_and_a_tuned_one_is_reported_as_lost(artifact: Artifact, encoder: Encoder) -> None:
    artifact = with_thresholds(artifact, {"law": 0.0}, "file")
    artifact = with_thresholds(artifact, {"code": 0.77}, "out-of-scope")
    changed = add_examples(artifact, encoder, "sport", SPORT)
    entries = changed.artifact.manifest.categories
    assert (entries["law"].threshold, entries["law"].threshold_from) == (0.0, "file")
    assert changed.untuned == ("code",)
    assert entries["code"].threshold_from == "in-scope"


def test_an_index_of_a_tuned_encoder_notes_that_its_figures_are_optimistic(
    artifact: Artifact, encoder: Encoder
) -> None:
    tuned = {**artifact.manifest.validation, "encoder_tuned": True, "tuned_on": 16}
    artifact = with_thresholds(artifact, {}, "in-scope", validation=tuned)
    report = add_examples(artifact, encoder, "sport", SPORT).artifact.manifest.validation
    assert (report["encoder_tuned"], report["tuned_on"], report["note"]) == (True, 16, TUNED_NOTE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("category", "texts", "message"),
    [
        ("code", ["  "], "blank"),
        ("code", ["half \ud800"], "surrogate"),
        ("sport", [], "needs examples"),
        ("a\tb", ["x"], "must be printable text"),
    ],
)
def test_invalid_additions_are_refused_and_nothing_is_written(
    artifact: Artifact, encoder: Encoder, category: str, texts: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        add_examples(artifact, encoder, category, texts)
    assert open_artifact(artifact.folder).manifest == artifact.manifest


@pytest.mark.slow
def test_invalid_removals_are_refused(artifact: Artifact, encoder: Encoder) -> None:
    with pytest.raises(DataError, match='no category "tax"; it has code, cooking, law'):
        remove_category(artifact, encoder, "tax")
    with pytest.raises(DataError, match="no example 'nothing of the kind'"):
        remove_examples(artifact, encoder, "law", ["nothing of the kind"])
    owners, texts = artifact.examples()
    law = [text for text, owner in zip(texts, owners, strict=True) if owner == "law"]
    with pytest.raises(DataError, match="remove the category instead"):
        remove_examples(artifact, encoder, "law", law)
    artifact = remove_category(artifact, encoder, "law").artifact
    artifact = remove_category(artifact, encoder, "code").artifact
    with pytest.raises(DataError, match="the only category"):
        remove_category(artifact, encoder, "cooking")


@pytest.fixture
def staged(own_staged_index: Path) -> Artifact:
    return open_artifact(own_staged_index)


@pytest.mark.slow
def test_a_changed_index_keeps_a_first_stage_for_all_its_examples(staged: Artifact, embedded: list[str]) -> None:
    changed = add_examples(staged, open_encoder(staged), "sport", SPORT)
    before, after = staged.manifest.first_stage, changed.artifact.manifest.first_stage
    assert before is not None
    assert after is not None
    assert not changed.first_stage_lost
    assert set(embedded) == {*SPORT, *PROBES, *TRIAL_TEXTS, *NAMES, "sport"}  # the transformer embeds nothing else anew
    assert set(after.prototypes) == {"code", "cooking", "law", "sport"}
    assert after.encoder == before.encoder
    assert after.validation["chosen_on"] == "held-out"
    assert changed.artifact.files["first_encoder_model"] == staged.files["first_encoder_model"]
    live = Router.load(staged.folder).live
    assert live.first is not None
    scores = live.first.scorer.scores(live.first.encoder.encode(SPORT))
    assert {live.semantic.names[number] for number in scores.argmax(axis=1)} == {"sport"}


@pytest.mark.slow
def test_a_bar_chosen_against_out_of_scope_queries_is_not_undercut_by_a_change(staged: Artifact) -> None:
    entry = staged.manifest.first_stage
    assert entry is not None
    staged = with_thresholds(staged, {}, "in-scope", first_stage=replace(entry, floor=0.65))
    encoder = open_encoder(staged)
    for _ in range(2):  # the floor outlives the first change
        staged = add_examples(staged, encoder, "sport", SPORT).artifact
        now = staged.manifest.first_stage
        assert now is not None
        assert now.floor == 0.65
        assert now.bar >= 0.65
        staged = remove_category(staged, encoder, "sport").artifact


@pytest.mark.slow
def test_a_first_stage_that_no_longer_pays_is_removed_and_reported(staged: Artifact) -> None:
    entry = staged.manifest.first_stage
    assert entry is not None
    staged = with_thresholds(staged, {}, "in-scope", first_stage=replace(entry, floor=9.0))
    changed = add_examples(staged, open_encoder(staged), "sport", SPORT)
    assert changed.first_stage_lost
    assert changed.artifact.manifest.first_stage is None
    assert changed.artifact.manifest.validation["first_stage_left_out"]["answered"] == 0.0
    assert not [role for role in changed.artifact.files if role.startswith("first_")]
    assert Router.load(staged.folder).route("egg").steps_ms.keys() == {"encode", "score"}
