from __future__ import annotations

import gzip
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from semroute.data.tabular import TableColumns, column_key, iter_rows
from semroute.errors import SemrouteError

COLUMNS = TableColumns(frozenset({"query", "messages", "model"}), "query")
ROWS: list[dict[str, Any]] = [
    {"query": "fix the python loop", "model": "gpt-4o"},
    {"query": "boil, or fry, an egg?", "model": "gpt-4o-mini"},
]


def read(source: Path | str, stdin: bytes = b"") -> tuple[list[dict[str, object]], list[str]]:
    rows, errors = [], []
    for found in iter_rows(source, COLUMNS, io.BytesIO(stdin)):
        if isinstance(found, SemrouteError):
            errors.append(str(found))
        else:
            rows.append(dict(found[1]))
    return rows, errors


def as_jsonl() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def as_csv(separator: str) -> bytes:
    lines = [separator.join(["query", "model"])]
    lines += [separator.join([f'"{row["query"]}"', row["model"]]) for row in ROWS]
    return "\r\n".join(lines).encode("utf-8-sig")


def as_parquet() -> bytes:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    written = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(ROWS), written)
    return written.getvalue()


FORMATS = {
    "r.jsonl": as_jsonl,
    "r.ndjson": as_jsonl,
    "r.log": as_jsonl,
    "r.txt": as_jsonl,
    "r.json": lambda: json.dumps(ROWS, indent=1).encode(),
    "one-line.json": lambda: json.dumps({"requests": ROWS}).encode(),
    "lines.json": as_jsonl,
    "r.csv": lambda: as_csv(","),
    "semicolon.csv": lambda: as_csv(";"),
    "r.tsv": lambda: as_csv("\t"),
    "r": lambda: as_csv(","),
    "r.jsonl.gz": lambda: gzip.compress(as_jsonl()),
    "r.csv.gz": lambda: gzip.compress(as_csv(";")),
    "r.parquet": as_parquet,
    "parquet-without-ending": as_parquet,
    "utf-16.jsonl": lambda: as_jsonl().decode().encode("utf-16"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMATS[name]())
    assert read(tmp_path / name) == (ROWS, [])


@pytest.mark.parametrize("name", FORMATS)
def test_standard_input_may_have_any_format(name: str) -> None:
    assert read("-", FORMATS[name]()) == (ROWS, [])


def test_a_named_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(as_csv(",")))
    writer.start()
    assert read(pipe) == (ROWS, [])
    writer.join()


@pytest.mark.parametrize("text", ["fix, the query\nboil\n", "what is a query\n", "a {brace} first\n{not json}\n"])
def test_lines_of_plain_text_are_queries_each(tmp_path: Path, text: str) -> None:
    queries = [{"query": line} for line in text.splitlines()]
    (tmp_path / "r.txt").write_text(text + "\n \n")
    assert read(tmp_path / "r.txt") == (queries, [])
    assert read("-", text.encode()) == (queries, [])


def test_one_column_with_a_known_name_is_a_table() -> None:
    assert read("-", b'query\n"two\nlines"\nb\n') == ([{"query": "two\nlines"}, {"query": "b"}], [])


def test_a_row_that_cannot_be_read_has_its_error_in_its_place_and_line() -> None:
    lines = as_jsonl().splitlines(keepends=True)
    rows, errors = read("-", b"not json\n" + lines[0] + b"\n[1]\n" + lines[1])
    assert rows == [{"query": "not json"}, *({"query": line.decode().strip()} for line in (lines[0], b"[1]", lines[1]))]
    rows, errors = read("-", lines[0] + b"not json\n\n[1]\n" + lines[1])
    assert rows == ROWS
    assert [error.split(": ")[0] for error in errors] == ["<stdin>:2", "<stdin>:4"]
    assert "malformed JSON" in errors[0]


def test_a_row_of_another_width_is_an_error_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("query,model\na,m\nb,m,too,many\nc,m\n")
    rows, errors = read(tmp_path / "r.csv")
    assert [row["query"] for row in rows] == ["a", "c"]
    assert errors[0].startswith(f"{tmp_path / 'r.csv'}:3: 4 fields where the header has 2")


@pytest.mark.slow
def test_what_was_read_before_damage_counts(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    lines = b"".join(json.dumps({"query": os.urandom(40).hex()}).encode() + b"\n" for _ in range(5000))
    path.write_bytes(gzip.compress(lines)[:-2000])
    rows, errors = read(path)
    assert len(rows) > 1000
    assert len(errors) == 1
    assert "damaged" in errors[0]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("r.xlsx", b"PK\x03\x04", "workbook"),
        ("r.jsonl", b"\xff\x00\x01", "zero bytes"),
        ("r.jsonl", b'{"query": "\xff"}\n', "is not UTF-8"),
        ("r.parquet", b"PAR1 and nothing", "cannot be read as a Parquet file"),
        ("r.json", b'{"query": ', "malformed JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error_that_names_it(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)
    rows, errors = read(tmp_path / name)
    assert rows == []
    assert len(errors) == 1
    assert str(tmp_path / name) in errors[0]
    assert problem in errors[0]


def test_folders_and_missing_files_are_errors(tmp_path: Path) -> None:
    assert read(tmp_path)[1] == [f"{tmp_path}: is a folder; name a file in it"]
    assert "no such file" in read(tmp_path / "none.jsonl")[1][0]


def test_parquet_without_a_known_column_names_its_columns(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"words": ["a"]}), tmp_path / "r.parquet")
    assert '(its columns: "words")' in read(tmp_path / "r.parquet")[1][0]


def test_messages_of_parquet_have_no_keys_that_were_never_written(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    messages = [{"role": "user", "content": "a"}, {"role": "tool", "content": "b", "tool_call_id": "1"}]
    parquet.write_table(arrow.Table.from_pylist([{"messages": messages}]), tmp_path / "r.parquet")
    assert read(tmp_path / "r.parquet")[0] == [{"messages": messages}]


@pytest.mark.parametrize(
    ("name", "key"), [("Per Month", "per_month"), ("  QUERY ", "query"), ('"max-tokens"', "max_tokens")]
)
def test_names_of_columns_are_normalised(name: str, key: str) -> None:
    assert column_key(name) == key
