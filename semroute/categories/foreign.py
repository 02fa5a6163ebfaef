"""Refuse files among category files that are none, with the way on."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from semroute.categories.notes import Notes, shortened
from semroute.categories.parts import Example
from semroute.texts.names import name_key

LABEL_COLUMNS = ("category", "label", "intent")
"""Columns that say which category a row belongs to."""
WORKBOOKS = frozenset({".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"})
ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"})
DATA = frozenset(
    {".csv", ".json", ".jsonl", ".md", ".ndjson", ".parquet", ".tsv", ".txt", ".yaml", ".yml", *WORKBOOKS, *ARCHIVES}
)
"""Endings that name a format."""
NOT_IMPORTED = WORKBOOKS | ARCHIVES | {".arrow", ".feather", ".xml", ".pkl", ".pickle", ".npz", ".pdf", ".docx"}

_BULLET = re.compile(r"(?:[-*+\u2022\u2013] |\d{1,6}[.)] )\s*")
_DASH = re.compile(r"[-*\u2022] ")
_COMMENT = re.compile(r"#{1,6}(?:\s|$)")
_YAML_KEY = re.compile(r"(?:name|description|models|threshold|examples|nlu|routes)\s*:")
_JSON = re.compile(r'\{.*":.*\}')
_HEADER = re.compile(r'"?(?:query|text|utterance|category|label|intent)"?[,;\t]', re.IGNORECASE)


def import_hint(path: Path) -> str:
    """Return the command that imports a file or folder."""
    out = "imported" if path.name == "categories" else "categories"
    return f'run "semroute import {shlex.quote(str(path))} --out {out}"'


def way_on(path: Path) -> str:
    """Return the remedy for a file that is no category file."""
    suffix = path.suffix.lower()
    if suffix in WORKBOOKS:
        return (
            'in the spreadsheet program save it as "CSV UTF-8", then '
            f'run "semroute import {shlex.quote(str(path.with_suffix(".csv")))} --out categories"'
        )
    if suffix in ARCHIVES:
        return 'unpack it, then run "semroute import" on what it holds'
    if suffix in NOT_IMPORTED:
        return "save it as CSV, JSONL or Parquet"
    return import_hint(path)


def refuse_other_labels(rows: Iterable[tuple[int, Mapping[str, object]]], own: str, notes: Notes) -> None:
    """Note a problem where a label column names other categories.

    Args:
        rows: line numbers and rows.
        own: the category that the file stands for.
        notes: takes the problem.
    """
    for column in LABEL_COLUMNS:
        labels: dict[str, int] = {}
        for number, row in rows:
            value = row.get(column)
            if isinstance(value, str | int | float) and str(value).strip():
                labels.setdefault(str(value).strip(), number)
        others = [label for label in labels if name_key(label) != name_key(own)]
        # A single other value under "label" may say something else of the rows; "category" means what it says.
        if others and (column == "category" or len(labels) > 1):
            named = ", ".join(shortened(label, 40) for label in list(labels)[:3]) + (", ..." if len(labels) > 3 else "")
            message = f'the column "{column}" names {named}, and this file stands for the category "{own}" alone'
            notes.problem(f"{message}; {import_hint(notes.path)}, or remove the column", labels[others[0]])
            return


def checked_lines(examples: Sequence[Example], notes: Notes) -> tuple[Example, ...]:
    """Check the lines of a text file, and strip the marks of a list."""
    if not examples:
        return ()
    foreign = _foreign(examples)
    if foreign is not None:
        message, line = foreign
        notes.problem(message.replace("{hint}", import_hint(notes.path)), line)
        return ()
    marks = [_BULLET.match(example.text) for example in examples]
    if all(mark is not None and example.text[mark.end() :] for mark, example in zip(marks, examples, strict=True)):
        notes.warn("every line is an item of a list; they are read without their marks", examples[0].line)
        return tuple(
            Example(example.text[mark.end() :], example.line)
            for mark, example in zip(marks, examples, strict=True)
            if mark is not None
        )
    for example in examples:
        if _DASH.match(example.text):
            fix = "mark every line, or none; an example that begins so goes into a .yaml file, in quotes"
            notes.problem(f"{shortened(example.text, 40)} is an item of a list among other lines; {fix}", example.line)
        elif _COMMENT.match(example.text):
            fix = "remove it; an example that begins so goes into a .yaml file, in quotes"
            notes.problem(f"{shortened(example.text, 40)} looks like a comment or a heading; {fix}", example.line)
    return tuple(examples)


def _foreign(examples: Sequence[Example]) -> tuple[str, int] | None:
    """Return why lines are in another format, and the line that shows it."""
    first = examples[0]
    for example in examples:
        if example.text.startswith("__label__"):
            return "holds fastText's labels; {hint}", example.line
        if "\r" in example.text:
            return "has a carriage return inside of a line; end every line with a line feed, or {hint}", example.line
    if all(_JSON.fullmatch(example.text) for example in examples):
        return 'holds JSON; name it .jsonl if every row has a "query", else {hint}', first.line
    if _YAML_KEY.match(first.text) and any(_DASH.match(e.text) or e.text == "examples:" for e in examples):
        return "holds YAML; name it .yaml", first.line
    if _HEADER.match(first.text):
        return "begins like a table with a header; name it .csv, or {hint}", first.line
    tabs = Counter(example.text.count("\t") for example in examples)
    if len(examples) > 1 and len(tabs) == 1 and 0 not in tabs:
        return "every line has columns with a tab between them; {hint}", first.line
    return None
