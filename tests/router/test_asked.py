"""The question beside a pasted text decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semroute.config import Config
from semroute.index.scoring import margin_score
from semroute.router import Router
from semroute.router.decide import score_texts
from semroute.router.load import LoadedIndex
from semroute.text.asks import VAGUE_ASKS
from semroute.types import Matrix

LEASE = (
    "The tenant shall pay the rent in advance on the first day of each month. The landlord is responsible for the "
    "structure of the building. Either party may end this lease by giving three months' notice in writing, and any "
    "dispute over this contract shall be settled by the court of the county. The deposit is returned within thirty "
    "days after the keys have been handed over, less the cost of any damage that the tenant is liable for by law."
)
CODE = "def area(w, h):\n    total = 0\n    for i in range(w):\n        total += h\n    return total"
RECIPE = "how do I bake a loaf of bread?"


@pytest.fixture
def live(routing_index: Path) -> LoadedIndex:
    return LoadedIndex.open(routing_index, Config())


def with_bar(live: LoadedIndex, bar: float | None) -> LoadedIndex:
    manifest = replace(live.artifact.manifest, ask_bar=bar)
    return replace(live, artifact=replace(live.artifact, manifest=manifest))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        f"{RECIPE}\n{LEASE}",
        f"{LEASE}\n\n{RECIPE}",
        f"{RECIPE}\n```python\n{CODE}\n```",
        f"```\n{CODE}\n```\n\n{RECIPE}",
        f"{CODE}\n\n{RECIPE}",
        f"Hello,\n\n{LEASE}\n\n{RECIPE}\n\nThanks\nAnna",
    ],
)
def test_the_question_beside_a_pasted_text_decides_and_the_reason_says_so(live: LoadedIndex, text: str) -> None:
    decision = Router(live, Config()).route(text)
    assert decision.category == "cooking"
    assert "the question beside a pasted text" in decision.reason


def test_an_index_of_an_older_version_goes_on_scoring_texts_whole(live: LoadedIndex) -> None:
    text = f"{LEASE}\n\n{RECIPE}"
    whole = live.scorer.scores(live.encoder.encode([text]))
    np.testing.assert_array_equal(score_texts(with_bar(live, None), [text]).scores, whole)
    assert not np.array_equal(score_texts(live, [text]).scores, whole)
    assert "beside" not in Router(with_bar(live, None), Config()).route(text).reason


@pytest.mark.slow
@pytest.mark.parametrize(
    "question",
    [
        "What do you think?",
        "summarise",
        "fix it",
        "help with this please",
        "Any thoughts?",
        "what is this?",
        "was ist das?",
    ],
)
@pytest.mark.parametrize("form", ["{0}\n\n{1}", "{1}\n\n{0}"])
def test_a_question_that_says_nothing_leaves_the_decision_to_the_text(
    live: LoadedIndex, question: str, form: str
) -> None:
    # However low the bar: such a question may be near to a category by chance.
    found = score_texts(with_bar(live, -1.0), [form.format(LEASE, question)])
    assert found.scores[0].argmax() == list(live.semantic.names).index("law")
    assert not found.by_ask


def test_a_clear_question_decides_beside_a_vague_one(live: LoadedIndex) -> None:
    text = f"Please have a look.\n\n{LEASE}\n\n{RECIPE}"
    assert Router(live, Config()).route(text).category == "cooking"


def test_the_form_of_a_question_makes_up_for_a_score_below_the_bar(live: LoadedIndex) -> None:
    text = f"{LEASE}\n\n{RECIPE}"
    scores = live.scorer.scores(live.encoder.encode([RECIPE]))
    bar = float(margin_score(scores)[0]) + 0.05
    assert score_texts(with_bar(live, bar), [text]).by_ask == {0}
    assert not score_texts(with_bar(live, bar + 1.0), [text]).by_ask


def test_a_plain_query_is_scored_to_the_bit_as_without_the_rule(live: LoadedIndex) -> None:
    queries = ["how do I boil an egg", "my landlord", "explain git rebase", "what is this?\nnobody knows"]
    texts = [*queries, f"{LEASE}\n\n{RECIPE}"]
    new, old = score_texts(with_bar(live, 0.5), texts), score_texts(with_bar(live, None), texts)
    np.testing.assert_array_equal(new.scores[:4], old.scores[:4])
    np.testing.assert_array_equal(new.confidence[:4], old.confidence[:4])
    np.testing.assert_array_equal(new.vectors, old.vectors)
    assert new.by_ask == {4}
    assert not old.by_ask


def test_only_texts_with_something_pasted_are_encoded_in_parts(live: LoadedIndex) -> None:
    seen: list[list[str]] = []

    class Counting:
        name, fingerprint, dimensions = live.encoder.name, live.encoder.fingerprint, live.encoder.dimensions

        def encode(self, texts: Sequence[str]) -> Matrix:
            seen.append(list(texts))
            return live.encoder.encode(texts)

    counting = replace(live, encoder=Counting())
    score_texts(counting, ["how do I boil an egg", "my landlord"])
    assert len(seen) == 1
    score_texts(counting, [f"{LEASE}\n\n{RECIPE}", f"{RECIPE}\n\n{LEASE}"])
    assert len(seen) == 4  # the texts, all their parts in one run, and examples of vague questions
    assert RECIPE in seen[2]
    assert seen[3] == list(VAGUE_ASKS)


@pytest.mark.slow
def test_a_first_stage_leaves_pasted_texts_to_the_index_itself(staged_index: Path) -> None:
    live = LoadedIndex.open(staged_index, Config())
    found = score_texts(live, ["recipe for carrot soup", f"{LEASE}\n\n{RECIPE}"])
    assert found.first.tolist() == [True, False]
    assert len(found.vectors) == 1
    assert found.scores[1].argmax() == list(live.semantic.names).index("cooking")
