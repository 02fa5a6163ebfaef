"""Texts of which the built-in encoder knows no word, by index, command and evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.config import Config
from semroute.data.examples import LabelledQuery
from semroute.learn.artifact import Examples, build_artifact, embed, with_thresholds
from semroute.learn.fit import FitOptions
from semroute.router import Router
from semroute.types import Encoder
from semroute.workflows.measure import score_by_stage

UNKNOWN = [
    "👍", "😂😂", "🙏!", "👨‍👩‍👧", "สวัสดี ราคาเท่าไหร่", "ราคา 500 บาท", "ខ្ញុំចង់ដឹង", "ຂ້ອຍຢາກຮູ້", "မင်္ဂလာပါ", "退款",
    "您幫忙退換", "ⴰⵣⵓⵍ", "ᏣᎳᎩ", "ⰀⰁⰂ", "\ue000\ue001", "a" * 101, "🤷", "🫠", "🥳🎉", "ߒߞߏ", "ꦲꦏ꧀ꦱꦫ",
]  # fmt: skip
KNOWN = [
    "boil an egg",
    "ok 👍",
    "где моя посылка",
    "환불해 주세요",
    "where",
    "2+2=🤔",
    "python สวัสดี",
    "?",
    "ⓟⓨⓣⓗⓞⓝ",
    "حكم المحكمة",
]


@pytest.fixture(scope="module")
def moods(exported_encoder: object, tmp_path_factory: pytest.TempPathFactory) -> Router:
    """Moods as emoji, of which the encoder knows none, beside words; every threshold is 0.2."""
    encoder: Encoder = exported_encoder.load()  # type: ignore[attr-defined]
    categories = {
        "negative": ["👎", "😡", "this is awful", "I hate it"],
        "positive": ["👍", "😍", "this is great", "I love it", "ดีมาก"],
    }
    examples = Examples(
        texts=tuple(text for texts in categories.values() for text in texts),
        owners=tuple(name for name, texts in categories.items() for _ in texts),
        descriptions=dict.fromkeys(categories, ""),
        models={"negative": ("careful",), "positive": ("quick",)},
        pinned={},
    )
    folder = tmp_path_factory.mktemp("moods") / "index"
    artifact, *_ = build_artifact(
        folder, examples, embed(encoder, examples.texts), encoder, options=FitOptions(head=False)
    )
    with_thresholds(artifact, dict.fromkeys(categories, 0.2), "in-scope")
    return Router.load(folder, config=Config())


@pytest.fixture(scope="module")
def router(routing_index: Path) -> Router:
    return Router.load(routing_index, config=Config())


@pytest.mark.parametrize("text", UNKNOWN)
def test_a_text_that_the_encoder_does_not_know_goes_to_the_fallback_with_that_reason(router: Router, text: str) -> None:
    decision = router.route(text)
    assert (decision.category, decision.is_fallback) == (None, True)
    assert "knows no word" in decision.reason
    assert decision.confidence is not None
    assert decision.confidence < 0.5
    json.dumps(decision.to_dict())


@pytest.mark.parametrize("text", KNOWN)
def test_a_text_of_which_the_encoder_knows_something_is_scored(router: Router, text: str) -> None:
    assert "knows no word" not in router.route(text).reason


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("👎", "negative"),
        ("👍", "positive"),
        ("👎🏽", "negative"),
        ("😍", "positive"),
        ("ดีมาก", "positive"),
        ("🤔", None),
    ],
)
def test_an_unknown_text_goes_to_the_category_that_has_it_as_an_example(
    moods: Router, text: str, category: str | None
) -> None:
    decision = moods.route(text)
    assert decision.category == category
    assert "knows no word" in decision.reason


def test_unknown_texts_of_a_batch_are_told_from_the_others(moods: Router) -> None:
    decisions = moods.route_many(["this is great", "👎", "🤔", "I hate it"])
    assert [decision.category for decision in decisions] == ["positive", "negative", None, "negative"]


def test_an_evaluation_decides_on_unknown_texts_as_serving_does(moods: Router) -> None:
    rows = [LabelledQuery("👎", "negative"), LabelledQuery("🤔", None), LabelledQuery("this is great", "positive")]
    scored, _ = score_by_stage(moods.live, rows)
    best = scored.scores.max(axis=1)
    assert [scored.categories[place] for place in scored.scores.argmax(axis=1)[[0, 2]]] == ["negative", "positive"]
    assert best[0] > 1
    assert best[1] < -1


@pytest.mark.slow
def test_an_unknown_text_goes_past_a_first_stage_that_is_sure(staged_index: Path) -> None:
    decision = Router.load(staged_index, config=Config()).route("👍👍")
    assert decision.is_fallback
    assert "knows no word" in decision.reason
