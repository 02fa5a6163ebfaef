from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from semroute.cli.evaluate import group_table
from semroute.errors import MissingExtraError
from semroute.evaluate import breakdown
from semroute.evaluate.breakdown import MIN_LANGUAGE, break_down, content_of, languages, length_of, script_of
from semroute.evaluate.metrics import wilson_interval
from semroute.evaluate.routing import OUT_OF_SCOPE, ScoredQueries


def scored(tops: list[int], labels: list[int], best: list[float] | None = None) -> ScoredQueries:
    scores = np.zeros((len(tops), 2), np.float32)
    scores[np.arange(len(tops)), tops] = best or [1.0] * len(tops)
    return ScoredQueries(("few", "many"), scores, np.ones(len(tops)), np.array(labels, np.int64))


EXAMPLES = {"few": 3, "many": 40}
THRESHOLDS = np.array([0.5, 0.5])


@pytest.mark.parametrize(
    ("query", "length"),
    [
        ("invoice", "one word"),
        ("发票", "one word"),
        ("where is my invoice", "short"),
        ("我的发票在哪里", "short"),
        ("please tell me where the invoice of last month went and who paid for it", "long"),
        ("我想知道上个月的发票在哪里以及是谁付的款还有他什么时候付的款", "long"),
    ],
)
def test_length_counts_words_with_and_without_spaces(query: str, length: str) -> None:
    assert length_of(query) == length


@pytest.mark.parametrize(
    ("query", "content"),
    [
        ("why is the sky blue", "prose"),
        ("the user: he wrote to us", "prose"),
        ("def add(a, b):\n    return a + b", "code"),
        ("User: hello\nAssistant: hi\nUser: my parcel is late", "conversation"),
    ],
)
def test_content_is_prose_code_or_conversation(query: str, content: str) -> None:
    assert content_of(query) == content


def test_a_query_that_names_nothing_of_a_language_is_in_a_group_of_its_own() -> None:
    assert script_of("12 + 3") == "not detected"
    assert [script_of(text) for text in ("hello", "привет", "发票", "שלום")] == [
        "Latin script",
        "Cyrillic script",
        "Han script",
        "Hebrew script",
    ]


def test_without_the_extra_scripts_stand_for_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(text: str) -> str | None:
        raise MissingExtraError("telling languages apart", "language")

    monkeypatch.setattr(breakdown, "detect_language", missing)
    found = languages(["where is it"] * MIN_LANGUAGE + ["где это"] * MIN_LANGUAGE + ["שלום", "发票"])
    assert set(found) == {"Latin script", "Cyrillic script", "other languages"}


@pytest.mark.slow
def test_languages_of_few_queries_are_merged() -> None:
    pytest.importorskip("py3langid")
    english = ["where is the invoice that I was sent last month"] * MIN_LANGUAGE
    german = ["wo ist die Rechnung, die ich letzten Monat bekommen habe"]
    french = ["où est la facture que vous m'avez envoyée le mois dernier"]
    assert languages([*english, *german]) == ["en"] * MIN_LANGUAGE + ["de"]
    assert languages([*english, *german, *french])[-2:] == ["other languages"] * 2


def test_a_group_has_its_own_accuracy_interval_and_share_of_rejected() -> None:
    queries = ["invoice"] * 4 + ["where is my invoice now"] * 4
    tops, labels = [0, 1, 0, 0, 1, 1, 1, 0], [0, 0, 0, OUT_OF_SCOPE, 1, 1, 1, OUT_OF_SCOPE]
    best = [1.0, 1.0, 0.2, 0.2, 1.0, 1.0, 1.0, 1.0]
    rows = {row.group: row for row in break_down(queries, scored(tops, labels, best), THRESHOLDS, EXAMPLES)}
    one_word = rows["one word"]
    assert (one_word.n, one_word.accuracy, one_word.rejected) == (4, 0.5, pytest.approx(1 / 3))
    assert one_word.accuracy_interval == wilson_interval(2, 4)
    assert (rows["short"].accuracy, rows["short"].rejected) == (0.75, 0.0)
    # Out-of-scope queries have no category, and so no number of examples.
    assert (rows["at most 10 examples"].n, rows["over 10 examples"].n) == (3, 3)
    assert all(row.is_small for row in rows.values())


def test_only_a_group_that_is_surely_below_the_rest_is_weak() -> None:
    queries = ["invoice"] * 60 + ["where is my invoice now"] * 60
    surely = break_down(queries, scored([1] * 30 + [0] * 90, [0] * 120), THRESHOLDS, EXAMPLES)
    by_chance = break_down(queries, scored([1] * 2 + [0] * 118, [0] * 120), THRESHOLDS, EXAMPLES)
    assert [row.group for row in surely if row.is_weak and row.aspect == "length"] == ["one word"]
    assert not any(row.is_weak for row in by_chance)


@given(st.lists(st.tuples(st.text(min_size=1), st.integers(0, 1), st.integers(-1, 1)), min_size=1, max_size=30))
def test_the_groups_of_an_aspect_share_out_all_queries(rows: list[tuple[str, int, int]]) -> None:
    queries, tops, labels = (list(column) for column in zip(*rows, strict=True))
    found = break_down(queries, scored(tops, labels), THRESHOLDS, EXAMPLES)
    for aspect in ("language", "length", "content"):
        members = [row for row in found if row.aspect == aspect]
        assert sum(row.n for row in members) == len(rows)
        hits = sum(top == label for top, label in zip(tops, labels, strict=True))
        assert sum(row.accuracy * row.n for row in members) == pytest.approx(hits)
    assert sum(row.n for row in found if row.aspect == "examples") == sum(label != OUT_OF_SCOPE for label in labels)
    json.dumps([row.to_dict() for row in found], allow_nan=False)


def test_the_table_fits_80_columns_and_marks_weak_and_small_groups() -> None:
    queries = ["invoice"] * 60 + ["где мой счёт за прошлый месяц"] * 60 + ["print(x);\nfor (int i = 0;;) {}"] * 5
    rows = break_down(queries, scored([1] * 30 + [0] * 95, [0] * 125), THRESHOLDS, EXAMPLES)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(group_table(rows))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("length: one word") and "weak" in line for line in lines)
    assert any(line.startswith("content: code") and "few queries" in line for line in lines)
