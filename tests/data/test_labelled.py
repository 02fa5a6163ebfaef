from __future__ import annotations

import csv
import json
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.data.examples import Finding, LabelledQuery
from semroute.data.queries import read_labelled
from semroute.errors import DataError

pyarrow = pytest.importorskip("pyarrow", reason='needs the extra "parquet"')
parquet = pytest.importorskip("pyarrow.parquet", reason='needs the extra "parquet"')


def _refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_labelled(path)
    return str(caught.value).replace(str(path), path.name)


def _parquet(path: Path, **columns: object) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_null_empty_and_missing_categories_are_out_of_scope(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text(
        '{"query": " a ", "category": " code "}\n\n{"query": "b", "category": null}\n'
        '{"query": "c", "category": ""}\n{"query": "d", "id": 4}\n'
    )
    assert read_labelled(path) == [
        LabelledQuery("a", "code"),
        LabelledQuery("b", None),
        LabelledQuery("c", None),
        LabelledQuery("d", None),
    ]


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip),
            st.none() | st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_three_formats_give_the_same_rows(rows: list[tuple[str, str | None]]) -> None:
    # Names of categories are compared in one form (NFC), whatever a file has.
    expected = [
        LabelledQuery(query.strip(), category and unicodedata.normalize("NFC", category.strip()))
        for query, category in rows
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "l.jsonl").open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(json.dumps({"query": query, "category": category}) + "\n" for query, category in rows)
        with (folder / "l.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([["query", "category"], *rows])
        _parquet(folder / "l.parquet", query=[query for query, _ in rows], category=[label for _, label in rows])
        for suffix in ("jsonl", "csv", "parquet"):
            assert read_labelled(folder / f"l.{suffix}") == expected


def test_a_dictionary_column_and_an_all_null_column_are_read_from_parquet(tmp_path: Path) -> None:
    labels = pyarrow.array(["code", None, "code"]).dictionary_encode()
    found = read_labelled(_parquet(tmp_path / "l.PARQUET", id=[1, 2, 3], query=["a", "b", "c"], category=labels))
    assert [row.category for row in found] == ["code", None, "code"]
    found = read_labelled(_parquet(tmp_path / "n.parquet", query=["a"], category=pyarrow.nulls(1)))
    assert found == [LabelledQuery("a", None)]


@pytest.mark.parametrize("word", ["null", "None", "NULL", "oos", "OOS", "out-of-scope", "Out of scope", "nan", "<NA>"])
def test_a_word_for_out_of_scope_is_out_of_scope_in_every_format(tmp_path: Path, word: str) -> None:
    (tmp_path / "l.csv").write_text(f"query,category\nhi,code\nhello, {word} \n".replace("hello, ", "hello,"))
    (tmp_path / "l.jsonl").write_text(json.dumps({"query": "hello", "category": word}) + "\n")
    assert [row.category for row in read_labelled(tmp_path / "l.csv")] == ["code", None]
    (row,) = read_labelled(tmp_path / "l.jsonl")
    assert (row.category, row.written) == (None, word)


def test_a_row_without_a_query_is_left_out_with_a_warning_and_does_not_end_the_reading(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text('query,category\na,x\n,\n" ",y\n\n,z\nb,x\n,,\n')
    (tmp_path / "l.jsonl").write_text('{"query": "a"}\n{"query": " "}\n{"query": null, "category": "x"}\n')
    warned: list[Finding] = []
    assert [row.query for row in read_labelled(tmp_path / "l.csv", warned.append)] == ["a", "b"]
    assert [str(finding) for finding in warned] == [
        f"{tmp_path / 'l.csv'}:4: 2 rows without a query, this the first; left out"
    ]
    assert [(row.query, row.line) for row in read_labelled(tmp_path / "l.jsonl", warned.append)] == [("a", 1)]
    _parquet(tmp_path / "l.parquet", query=["a", None, ""], category=["x", "y", "z"])
    assert len(read_labelled(tmp_path / "l.parquet", warned.append)) == 1
    assert [finding.line for finding in warned] == [4, 2, 2]


def test_every_problem_is_named_with_its_line_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text('{"query": "a", "category": 3}\n{"query": \n{"query": 7, "category": "x"}\n{"category": "x"}\n')
    lines = _refusal(path).splitlines()
    assert [line.replace(str(path), path.name).split(": ")[0] for line in lines] == [
        f"l.jsonl:{number}" for number in (1, 2, 3, 4)
    ]
    assert "must be a category's name, or null for out of scope, not a number" in lines[0]


def test_a_bad_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "l.parquet", query=[1, 2], category=["x", "y"])
    assert _refusal(path).startswith('l.parquet: row 1: "query" must be text, not a number')
    path = _parquet(tmp_path / "m.parquet", query=["a", "b"], category=[1, None])
    assert _refusal(path).startswith('m.parquet: row 1: "category" must be a category\'s name')


def test_a_file_without_any_category_is_refused_and_not_taken_for_out_of_scope(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text('{"query": "a"}\n{"query": "b"}\n')
    assert _refusal(path).startswith('l.jsonl: no row has the key "category"; add it')
    path = tmp_path / "l.csv"
    path.write_text("query,label\na,b\n")
    assert _refusal(path).startswith('l.csv:1: the header has no column "category"')
    assert _refusal(_parquet(tmp_path / "l.parquet", query=["a"], label=["x"])).startswith(
        'l.parquet: must have one column "category" (its columns: "query, label")'
    )


@pytest.mark.parametrize(("name", "content"), [("l.jsonl", ""), ("l.csv", ""), ("l.csv", "query,category\n")])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert _refusal(path).startswith(f"{name}: holds no rows")


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    none = pyarrow.array([], pyarrow.string())
    assert _refusal(_parquet(tmp_path / "l.parquet", query=none, category=none)).startswith("l.parquet: holds no rows")


@pytest.mark.parametrize("name", ["l.jsonl", "l.csv", "l.parquet"])
def test_a_missing_file_is_a_clear_error(tmp_path: Path, name: str) -> None:
    assert _refusal(tmp_path / name) == f"{name}: no such file; check the path"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all" * 10])
def test_a_file_that_is_not_parquet_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "l.parquet"
    path.write_bytes(content)
    assert _refusal(path).startswith("l.parquet: cannot be read as a Parquet file: ")


def test_a_truncated_parquet_file_is_a_clear_error(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "l.parquet", query=["a"] * 1000, category=["x"] * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be read as a Parquet file" in _refusal(path)


def test_another_extension_names_those_that_are_read(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "l.tsv").startswith("l.tsv: a labelled file is one of .jsonl, .csv, .parquet")
