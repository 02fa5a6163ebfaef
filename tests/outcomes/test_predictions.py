from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.errors import DataError
from semroute.outcomes.files import read_predictions


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_lines_are_matched_by_query_and_columns_by_model(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "p.jsonl",
        '{"query": " b ", "quality": {"x": 0.25, "y": 1, "z": 7}, "model": "x"}\n'
        '{"query": "other", "quality": {}}\n'
        '{"query": "a", "quality": {"y": 0, "x": 0.5}}\n',
    )
    assert read_predictions(path, ["a", "b", "a"], ["y", "x"]).quality.tolist() == [[0, 0.5], [1, 0.25], [0, 0.5]]


def test_the_seen_value_of_a_prediction_is_kept(tmp_path: Path) -> None:
    lines = [("a", ', "seen": true'), ("b", ', "seen": false'), ("c", ', "seen": null'), ("d", ""), ("e", "")]
    path = _write(tmp_path / "p.jsonl", "".join(f'{{"query": "{q}", "quality": {{"x": 1}}{s}}}\n' for q, s in lines))
    found = read_predictions(path, ["d", "a", "b", "a", "c"], ["x"])
    assert found.seen == (None, True, False, True, None)
    assert (found.trained_on, found.not_told) == (2, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"query": "a", "quality": {"y": 1}}', ':1: "quality" must have a number from 0 to 1 for "x", not null'),
        ('{"query": "a", "quality": {"x": 1.5}}', 'for "x", not 1.5'),
        ('{"query": "a", "quality": {"x": NaN}}', 'for "x", not nan'),
        ('{"query": "a", "quality": {"x": true}}', 'for "x", not true or false'),
        ('{"query": "a", "quality": [1]}', '"quality" must be an object with a number for each model, not a list'),
        ('{"query": "a"}', "not null"),
        ('{"query": "b", "quality": {"x": 1}}', '1 of the 1 queries are missing, such as "a"; predict them too'),
        ('{"query": "a", "quality": {"x": 1}, "seen": 1}', ':1: "seen" must be true or false, not a number'),
        ("{", ":1: malformed JSON"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_predictions(_write(tmp_path / "p.jsonl", text + "\n"), ["a"], ["x"])
    assert said in str(caught.value)


def test_a_line_with_signals_is_for_the_rows_with_the_same_ones(tmp_path: Path) -> None:
    loop = {"turns": 1, "tool_loop": 5}
    lines = [
        {"query": "a", "signals": loop, "quality": {"x": 0.25}},
        {"query": "a", "quality": {"x": 0.75}},
        {"query": "b", "quality": {"x": 0.5}},
    ]
    path = _write(tmp_path / "p.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    queries, signals = ["a", "a", "b"], [{}, loop, loop]
    assert read_predictions(path, queries, ["x"], signals).quality[:, 0].tolist() == [0.75, 0.25, 0.5]
    assert read_predictions(path, queries, ["x"]).quality[:, 0].tolist() == [0.75, 0.75, 0.5]
