from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.errors import DataError
from semroute.outcomes.files import read_outcomes

pyarrow = pytest.importorskip("pyarrow", reason='needs the extra "parquet"')
parquet = pytest.importorskip("pyarrow.parquet", reason='needs the extra "parquet"')

_COLUMNS = ("query", "task", "model", "quality", "cost_usd", "input_tokens", "output_tokens", "latency_ms", "response")


def _jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_outcomes(path)
    return str(caught.value).replace(str(path), path.name)


def test_missing_values_of_a_row_are_nan(tmp_path: Path) -> None:
    table = read_outcomes(
        _jsonl(
            tmp_path / "o.jsonl",
            {
                "query": " a ",
                "task": "t",
                "outcomes": {
                    "small": {"quality": 0.25, "cost_usd": 0.5, "input_tokens": 3, "output_tokens": 7, "latency_ms": 9},
                    "large": {"quality": 1, "probability": 0.125, "response": "yes"},
                },
            },
            {"query": "b", "outcomes": {"large": {"quality": None}, "small": None, "third": {"quality": 0}}},
        ),
        keep_responses=True,
    )
    nan = np.nan
    assert (table.queries, table.tasks, table.models) == (["a", "b"], ["t", ""], ("small", "large", "third"))
    np.testing.assert_array_equal(table.quality, np.array([[0.25, 1, nan], [nan, nan, 0]], np.float32))
    np.testing.assert_array_equal(table.cost[0], np.array([0.5, nan, nan], np.float32))
    np.testing.assert_array_equal(table.input_tokens[0], np.array([3, nan, nan], np.float32))
    np.testing.assert_array_equal(table.output_tokens[0], np.array([7, nan, nan], np.float32))
    np.testing.assert_array_equal(table.latency[0], np.array([9, nan, nan], np.float32))
    np.testing.assert_array_equal(table.probability[0], np.array([nan, 0.125, nan], np.float32))
    assert table.responses == [(None, "yes", None), (None, None, None)]
    assert not table.counted.any()


_NUMBER = st.none() | st.floats(0, 1, width=32)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
_ROWS = st.lists(st.tuples(_TEXT, _TEXT, _TEXT, *[_NUMBER] * 5, st.none() | _TEXT), min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(_ROWS)
def test_all_file_formats_give_the_same_table(rows: list[tuple[str | float | None, ...]]) -> None:
    long = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    nested = [{"query": row["query"], "task": row["task"], "outcomes": {row["model"]: row}} for row in long]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [_jsonl(folder / "long.jsonl", *long), _jsonl(folder / "nested.jsonl", *nested)]
        with (folder / "o.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerows([_COLUMNS, *rows])
        columns = {name: [row[name] for row in long] for name in _COLUMNS}
        parquet.write_table(pyarrow.table(columns), folder / "o.parquet")
        tables = [read_outcomes(path, keep_responses=True) for path in [*paths, folder / "o.csv", folder / "o.parquet"]]
    first = tables[0]
    for other in tables[1:]:
        assert (other.queries, other.tasks, other.models) == (first.queries, first.tasks, first.models)
        for field in ("quality", "cost", "input_tokens", "output_tokens", "latency"):
            np.testing.assert_array_equal(getattr(other, field), getattr(first, field))
    # A CSV file cannot tell an empty response from none.
    assert tables[1].responses == first.responses == tables[3].responses


def test_parquet_may_nest_models_with_null_for_missing_ones(tmp_path: Path) -> None:
    outcomes = [{"a": {"quality": 0.5}, "b": None}, {"a": None, "b": {"quality": 1.0}}]
    parquet.write_table(pyarrow.table({"query": ["x", "y"], "outcomes": outcomes}), tmp_path / "o.parquet")
    table = read_outcomes(tmp_path / "o.parquet")
    np.testing.assert_array_equal(table.quality, np.array([[0.5, np.nan], [np.nan, 1]], np.float32))


def test_several_files_make_one_table(tmp_path: Path) -> None:
    one = _jsonl(tmp_path / "one.jsonl", {"query": "a", "outcomes": {"x": {"quality": 1}}})
    two = tmp_path / "two.csv"
    two.write_text("query,model,quality\na,y,0.5\nb,y,\n")
    table = read_outcomes([one, two])
    assert (table.queries, table.models, table.findings) == (["a", "b"], ("x", "y"), ())
    np.testing.assert_array_equal(table.quality, np.array([[1, 0.5], [np.nan, np.nan]], np.float32))


def test_repeated_models_of_a_row_are_averaged_with_a_warning(tmp_path: Path) -> None:
    path = _jsonl(
        tmp_path / "o.jsonl",
        {"query": "a", "task": "t", "outcomes": {"x": {"quality": 1, "cost_usd": 4, "response": "first"}}},
        {"query": "a", "task": "other", "outcomes": {"x": {"quality": 0.5}}},
        {"query": "a ", "task": "t", "outcomes": {"x": {"quality": 0, "response": "second"}}},
    )
    table = read_outcomes(path, keep_responses=True)
    assert table.tasks == ["t", "other"]
    assert table.quality[:, 0].tolist() == [0.5, 0.5]
    assert table.cost[0, 0] == 4
    assert table.responses == [("first",), (None,)]
    (finding,) = table.findings
    assert str(finding).startswith(f"{path}:3: a query and model that occurred before, 1 times")


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_each_time_that_a_log_drew_a_model_is_a_row_of_its_own(tmp_path: Path, suffix: str) -> None:
    told = [("x", 1, 0.25), ("y", 0, 0.5), ("x", 0, 0.75), ("x", 0.5, 1), ("y", 0.5, "")]
    path = tmp_path / f"o.{suffix}"
    if suffix == "csv":
        path.write_text("query,model,quality,probability\n" + "".join(f"a,{x},{q},{p}\n" for x, q, p in told))
    else:
        cells = [{x: {"quality": q, "probability": None if p == "" else p}} for x, q, p in told]
        _jsonl(path, *({"query": "a", "outcomes": cell} for cell in cells))
    table = read_outcomes(path)
    # What is certain, or not drawn, joins: both models were asked of the query.
    nan = np.nan
    assert table.queries == ["a"] * 4
    assert table.findings == ()
    np.testing.assert_array_equal(table.quality, np.array([[1, nan], [nan, 0], [0, nan], [0.5, 0.5]], np.float32))
    np.testing.assert_array_equal(
        table.probability, np.array([[0.25, nan], [nan, 0.5], [0.75, nan], [1, nan]], np.float32)
    )


@pytest.mark.slow
@pytest.mark.parametrize("draws", ["anew", "the same for the same query"])
def test_repeatedly_logged_queries_do_not_bias_the_estimates(tmp_path: Path, draws: str) -> None:
    random = np.random.default_rng(3)
    rows, truth = [], []
    for number in range(3000):
        # Hard queries come three times, and mostly go to the larger model.
        is_hard = number % 2
        good = {"small": 0.1 if is_hard else 0.9, "large": 0.8}
        place = random.random()
        for _ in range(1 + 2 * is_hard):
            large = (0.6 if is_hard else 0.2) + random.choice([-0.1, 0.1])
            model = "large" if (random.random() if draws == "anew" else place) < large else "small"
            quality = {name: float(random.random() < chance) for name, chance in good.items()}
            chance = large if model == "large" else 1 - large
            rows.append(
                {"query": f"q{number}", "outcomes": {model: {"quality": quality[model], "probability": chance}}}
            )
            truth.append([good["small"], good["large"]])
    table = read_outcomes(_jsonl(tmp_path / "o.jsonl", *rows)).with_models(["small", "large"])
    weight = np.where(np.isfinite(table.quality), 1 / table.probability, 0)
    np.testing.assert_allclose(weight.mean(axis=0), 1, atol=0.06)
    np.testing.assert_allclose((weight * np.nan_to_num(table.quality)).mean(axis=0), np.mean(truth, axis=0), atol=0.04)


def test_responses_without_token_counts_are_counted_in_batches(tmp_path: Path) -> None:
    batches: list[int] = []

    def words(texts: Sequence[str]) -> list[int]:
        batches.append(len(texts))
        return [len(text.split()) for text in texts]

    rows = [{"query": f"q{n}", "outcomes": {"x": {"quality": 1, "response": "w " * (n % 7)}}} for n in range(1500)]
    rows[3]["outcomes"]["x"]["output_tokens"] = 99  # type: ignore[index]
    table = read_outcomes(_jsonl(tmp_path / "o.jsonl", *rows), count=words)
    assert sum(batches) == 1499
    assert max(batches) < 1499
    assert table.output_tokens[3, 0] == 99
    assert table.output_tokens[1499, 0] == 1499 % 7
    assert not table.counted[3, 0]
    assert table.counted.sum() == 1499
    assert table.responses is None


def _cell(text: str) -> str:
    return f'{{"query": "a", "outcomes": {{"x": {text}}}}}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            _cell('{"quality": 1.5}'),
            '"quality" of "x" must be a number from 0 to 1, not 1.5',
        ),
        (_cell('{"quality": NaN}'), "must be a number from 0 to 1, not nan"),
        (_cell('{"quality": true}'), "from 0 to 1, not true or false"),
        (_cell('{"quality": "1"}'), 'from 0 to 1, not "1"'),
        (_cell('{"score": 1}'), 'of "x" has no "quality" (its keys: "score")'),
        (
            _cell('{"quality": 1, "cost_usd": -1}'),
            '"cost_usd" of "x" must be a number from 0',
        ),
        (_cell('{"quality": 1, "cost_usd": 1' + "0" * 400 + "}"), "correct it"),
        (_cell('{"quality": 1, "probability": 0}'), '"probability" of "x" must be above 0'),
        (_cell('{"quality": 1, "response": 3}'), '"response" of "x" must be text'),
        (_cell('{"quality": 1, "effort": 3}'), '"effort" of "x" must be text, such as "high", not'),
        ('{"query": "a", "outcomes": {"x": 1}}', 'the outcome of "x" must be an object such as {"quality": 0.5}'),
        ('{"query": "a", "outcomes": {}}', '"outcomes" names no model'),
        ('{"query": "a", "outcomes": {"x": null}}', '"outcomes" names no model'),
        ('{"query": "a", "outcomes": []}', '"outcomes" must be an object with a key for each model, not a list'),
        ('{"query": "a", "outcomes": {" ": {"quality": 1}}}', "a model's name is blank"),
        ('{"query": "a", "answers": 1}', 'has neither "outcomes" nor "model"'),
        ('{"query": " ", "outcomes": {"x": {"quality": 1}}}', '"query" is blank'),
        ('{"query": "a", "task": 3, "outcomes": {"x": {"quality": 1}}}', '"task" must be text, not a number'),
        ('{"query": "a", ', "malformed JSON at column"),
        (_cell('{"quality": 1}, "x": {"quality": 0}'), 'the key "x" is written twice'),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line_and_a_fix(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text('{"query": "fine", "outcomes": {"x": {"quality": 1}}}\n' + line + "\n")
    message = _refusal(path)
    assert message.startswith("o.jsonl:2: ")
    assert said in message


def test_every_bad_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    path.write_text("query,model,quality\na,x,2\nb,x,1\nc,x,high\nd,,1\n")
    lines = _refusal(path).splitlines()
    assert [line.replace(str(path), path.name)[:8] for line in lines] == ["o.csv:2:", "o.csv:4:", "o.csv:5:"]
    assert '"quality" of "x" must be a number from 0 to 1, not "high"' in lines[1]


def test_a_parquet_row_is_named_by_its_number(tmp_path: Path) -> None:
    parquet.write_table(
        pyarrow.table({"query": ["a", "b"], "model": ["x", "x"], "quality": [1.0, 7.0]}), tmp_path / "o.parquet"
    )
    assert "row 2: " in _refusal(tmp_path / "o.parquet")


def test_text_that_is_not_utf8_and_files_without_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "o.jsonl").write_bytes(b'{"query": "caf\xe9"}\n')
    assert _refusal(tmp_path / "o.jsonl") == "o.jsonl:1: is not UTF-8 text; save the file as UTF-8"
    (tmp_path / "e.jsonl").write_text("\n")
    assert "holds no rows" in _refusal(tmp_path / "e.jsonl")
    assert "is one of .jsonl, .csv, .parquet" in _refusal(tmp_path / "o.json")
    assert "no such file" in _refusal(tmp_path / "absent.csv")


def test_signals_of_a_row_are_checked_and_unknown_ones_left_out(tmp_path: Path) -> None:
    cells = {"x": {"quality": 1.0}}
    rows = [
        {"query": "a", "signals": {"turns": 2, "plan_mode": True, "tool_loop": 0, "mood": "bad"}, "outcomes": cells},
        {"query": "a", "signals": {"turns": 2, "plan_mode": True}, "outcomes": {"y": {"quality": 0.5}}},
        {"query": "a", "signals": None, "outcomes": cells},
    ]
    table = read_outcomes(_jsonl(tmp_path / "o.jsonl", *rows))
    assert table.signals == [{"turns": 2, "plan_mode": True}, {}]
    assert table.take(np.array([1])).signals == [{}]
    assert read_outcomes(_jsonl(tmp_path / "p.jsonl", rows[2])).signals is None
    for signals, said in (
        ("many", '"signals" must be an object'),
        ({"turns": -1}, '"turns" of "signals" must be a number from 0'),
        ({"tool_loop": "five"}, '"tool_loop" of "signals" must be a number from 0, or true or false, not text'),
        ({"tool_loop": float("inf")}, "must be a number"),
        ({"tool_loop": float("nan")}, "must be a number"),
    ):
        assert said in _refusal(_jsonl(tmp_path / "o.jsonl", {**rows[0], "signals": signals}))


def test_signals_are_read_from_parquet_and_are_no_column_of_csv(tmp_path: Path) -> None:
    rows = [
        {"query": "a", "model": "x", "quality": 1.0, "signals": {"turns": 2, "plan_mode": True}},
        {"query": "b", "model": "x", "quality": 0.0, "signals": None},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "o.parquet")
    assert read_outcomes(tmp_path / "o.parquet").signals == [{"turns": 2, "plan_mode": True}, {}]
    (tmp_path / "o.csv").write_text("query,model,quality,signals\na,x,1,strong\n")
    assert read_outcomes(tmp_path / "o.csv").signals is None
