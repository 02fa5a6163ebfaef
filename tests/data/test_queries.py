from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from semroute.data.queries import iter_queries
from semroute.errors import DataError


def test_text_and_chat_messages_come_with_their_lines(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    path = tmp_path / "q.jsonl"
    path.write_text(f'{{"query": "a"}}\n\n{{"query": {json.dumps(messages)}, "id": 7}}\n')
    assert list(iter_queries(path)) == [(1, "a"), (3, messages)]


def test_csv_and_text_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text('id,query\n1,"two\nlines"\n2,b\n')
    assert list(iter_queries(str(tmp_path / "q.csv"))) == [(2, "two\nlines"), (4, "b")]
    (tmp_path / "q.txt").write_text("a\n\n  b  \r\n")
    assert list(iter_queries(tmp_path / "q.txt")) == [(1, "a"), (3, "b")]


def test_queries_before_a_malformed_line_have_been_yielded(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"query": "a"}\n{"query"\n{"query": "c"}\n')
    queries = iter_queries(path)
    assert next(queries) == (1, "a")
    with pytest.raises(DataError, match=r"q\.jsonl:2: malformed JSON") as caught:
        next(queries)
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "a"}', 'has no key "query"'),
        ('{"query": null}', "not null"),
        ('{"query": 3}', "not a number"),
        ('{"query": ["a"]}', "must be text or a list of chat messages"),
        ('{"query": {"role": "user"}}', "not an object"),
    ],
)
def test_a_row_without_a_query_is_an_error_with_its_line(row: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(iter_queries("-", io.BytesIO(b"\n" + row.encode())))
    assert str(caught.value).startswith("<stdin>:2: ")


def test_a_blank_query_and_half_a_surrogate_pair_are_left_to_the_router() -> None:
    stdin = io.BytesIO(b'{"query": " "}\n{"query": "\\ud83d"}\n')
    assert list(iter_queries("-", stdin)) == [(1, " "), (2, "\ud83d")]


def test_a_line_that_is_not_utf_8_is_an_error_with_its_line() -> None:
    with pytest.raises(DataError, match="<stdin>:2: is not UTF-8"):
        list(iter_queries("-", io.BytesIO(b'{"query": "a"}\n\xff\xfe\n')))


def test_another_extension_and_a_missing_file_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a file of queries is one of \.jsonl, \.csv, \.txt"):
        iter_queries(tmp_path / "q.parquet")
    with pytest.raises(DataError, match="no such file"):
        next(iter_queries(tmp_path / "q.csv"))


@pytest.mark.slow
def test_standard_input_is_answered_line_by_line_while_it_stays_open() -> None:
    program = "from semroute.data import iter_queries\nfor row in iter_queries('-'): print(*row, flush=True)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 2):
            process.stdin.write(b'{"query": "caf\xc3\xa9"}\n')
            process.stdin.flush()
            assert process.stdout.readline().split()[0] == str(number).encode()
        process.stdin.close()
        assert process.wait(timeout=30) == 0
