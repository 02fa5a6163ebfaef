"""Examples, categories and labelled queries, with findings on them."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from semroute.errors import DataError
from semroute.text.names import name_key


@dataclass(frozen=True, slots=True)
class Example:
    """Example query without surrounding whitespace, and its 1-based line."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class CategoryFile:
    """Content of one file; see :class:`semroute.data.examples.Category`."""

    examples: tuple[Example, ...] = ()
    description: str = ""
    models: tuple[str, ...] = ()
    threshold: float | None = None
    name: str | None = None


# Plain values of category files and labelled files.


@dataclass(frozen=True, slots=True)
class Category:
    """Named category with labelled example queries.

    Attributes:
        name: the file's ``name``, else the file's name without its extension; in Unicode's composed form.
        description: scope of the category, for people and for the judge; empty where the file has none.
        models: logical models, cheapest first; empty where the file names none.
        examples: example queries in the order of the file, without surrounding whitespace, each once.
        threshold: the score in [-1, 1] from which a query fits; None leaves it to the build.
        source: the file.
    """

    name: str
    description: str
    models: tuple[str, ...]
    examples: tuple[str, ...]
    threshold: float | None = None
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """Query and its category.

    Attributes:
        query: its text.
        category: None for a query that is out of scope.
        written: the label where it is a word for "out of scope", such as ``oos``, which a category may have for a name.
        line: 1-based line of the file, of Parquet the row, where one is known.
    """

    query: str
    category: str | None
    written: str | None = field(default=None, compare=False)
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """Finding on a file; ``str()`` puts file and line before the message.

    Attributes:
        message: the finding, and the remedy.
        path: the file or folder.
        line: 1-based line in the file, where one is known.
    """

    message: str
    path: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        return str(DataError(self.message, path=self.path, line=self.line))


@dataclass(frozen=True, slots=True)
class CategorySet:
    """Categories of a folder.

    Attributes:
        categories: sorted by name.
        findings: likely mistakes that do not make it unusable.
    """

    categories: tuple[Category, ...]
    findings: tuple[Finding, ...] = ()


# Findings of a file, collected so that the user sees all at once.

Report: TypeAlias = Callable[[str, int | None], None]
"""Callback with a message and its 1-based line.

Readers of lines and rows know neither the file nor the effect of a problem.
"""

MAX_LISTED = 50
"""Most problems in one error; a file of the wrong kind has one in every line."""


class Notes:
    """Collector of the problems and warnings of a file.

    Problems make it unusable, warnings do not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Finding] = []
        self.warnings: list[Finding] = []

    def problem(self, message: str, line: int | None = None) -> None:
        self.problems.append(Finding(message, self.path, line))

    def warn(self, message: str, line: int | None = None) -> None:
        self.warnings.append(Finding(message, self.path, line))


def stop_at_first(path: Path) -> Report:
    """Return a report that raises at the first problem.

    For a stream, whose later lines may not have been written yet.
    """

    def report(message: str, line: int | None) -> None:
        raise DataError(message, path=path, line=line)

    return report


def combined(problems: Sequence[Finding]) -> DataError:
    """Combine problems to one error, one line each.

    ``path`` and ``line`` are those of the first.
    """
    first, *rest = problems
    lines = [first.message, *map(str, rest[: MAX_LISTED - 1])]
    if len(problems) > MAX_LISTED:
        lines.append(f"... and {len(problems) - MAX_LISTED} more problems")
    return DataError("\n".join(lines), path=first.path, line=first.line)


def shortened(text: str, length: int = 60) -> str:
    """Quote ``text`` on one line, for a message.

    Unprintable characters are escaped.
    """
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text[: 4 * length].split()))
    return f'"{printable}"' if len(printable) <= length else f'"{printable[: length - 3]}..."'


# Duplicate examples, inside a category and across categories.


def once_each(content: CategoryFile, notes: Notes) -> CategoryFile:
    """Keep the first of equal examples, with a warning for every other."""
    first: dict[str, Example] = {}
    for example in content.examples:
        first_example = first.setdefault(example.text, example)
        if first_example is not example:
            notes.warn(f"{shortened(example.text)} is in line {first_example.line} too; it counts once", example.line)
    return replace(content, examples=tuple(first.values()))


def across_categories(files: Iterable[tuple[Path, CategoryFile]]) -> list[Finding]:
    """Return a finding for every example that several categories share.

    Case and inner whitespace are ignored.
    """
    files_by_text: dict[str, dict[Path, Example]] = defaultdict(dict)
    for path, content in files:
        for example in content.examples:
            files_by_text[_normalised(example.text)].setdefault(path, example)
    findings = []
    for examples_by_file in files_by_text.values():
        if len(examples_by_file) < 2:
            continue
        (path, example), *duplicates = examples_by_file.items()
        locations = " and ".join(f"{other_path.name}:{other_example.line}" for other_path, other_example in duplicates)
        message = (
            f"{shortened(example.text)} is an example in {locations} too; keep it in the category where it belongs"
        )
        findings.append(Finding(message, path, example.line))
    return findings


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split())


# Refusal of other files among category files, with the remedy.

LABEL_COLUMNS = ("category", "label", "intent")
"""Columns with the category of a row."""
WORKBOOKS = frozenset({".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"})
ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"})
DATA = frozenset(
    {".csv", ".json", ".jsonl", ".md", ".ndjson", ".parquet", ".tsv", ".txt", ".yaml", ".yml", *WORKBOOKS, *ARCHIVES}
)
"""Extensions of known formats."""
NOT_IMPORTED = WORKBOOKS | ARCHIVES | {".arrow", ".feather", ".xml", ".pkl", ".pickle", ".npz", ".pdf", ".docx"}

_BULLET = re.compile(r"(?:[-*+\u2022\u2013] |\d{1,6}[.)] )\s*")
_DASH = re.compile(r"[-*\u2022] ")
_COMMENT = re.compile(r"#{1,6}(?:\s|$)")
_YAML_KEY = re.compile(r"(?:name|description|models|threshold|examples|nlu|routes)\s*:")
_JSON = re.compile(r'\{.*":.*\}')
_HEADER = re.compile(r'"?(?:query|text|utterance|category|label|intent)"?[,;\t]', re.IGNORECASE)


def import_hint(path: Path) -> str:
    """Return the command that imports a file or folder."""
    folder = "imported" if path.name == "categories" else "categories"
    return f'run "semroute import {shlex.quote(str(path))} --out {folder}"'


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


def refuse_other_labels(rows: Iterable[tuple[int, Mapping[str, object]]], category: str, notes: Notes) -> None:
    """Note a problem where a label column names other categories.

    Args:
        rows: line numbers and rows.
        category: the category that the file stands for.
        notes: receives the problem.
    """
    for column in LABEL_COLUMNS:
        labels: dict[str, int] = {}
        for number, row in rows:
            value = row.get(column)
            if isinstance(value, str | int | float) and str(value).strip():
                labels.setdefault(str(value).strip(), number)
        foreign_labels = [label for label in labels if name_key(label) != name_key(category)]
        # A single other value under "label" may mean something else; "category" is unambiguous.
        if foreign_labels and (column == "category" or len(labels) > 1):
            shown = ", ".join(shortened(label, 40) for label in list(labels)[:3]) + (", ..." if len(labels) > 3 else "")
            message = f'the column "{column}" names {shown}, and this file stands for the category "{category}" alone'
            notes.problem(f"{message}; {import_hint(notes.path)}, or remove the column", labels[foreign_labels[0]])
            return


def checked_lines(examples: Sequence[Example], notes: Notes) -> tuple[Example, ...]:
    """Check the lines of a text file, and strip list markers."""
    if not examples:
        return ()
    foreign_format = _foreign(examples)
    if foreign_format is not None:
        message, line = foreign_format
        notes.problem(message.replace("{hint}", import_hint(notes.path)), line)
        return ()
    bullets = [_BULLET.match(example.text) for example in examples]
    if all(
        bullet is not None and example.text[bullet.end() :] for bullet, example in zip(bullets, examples, strict=True)
    ):
        notes.warn("every line is an item of a list; they are read without their marks", examples[0].line)
        return tuple(
            Example(example.text[bullet.end() :], example.line)
            for bullet, example in zip(bullets, examples, strict=True)
            if bullet is not None
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
    """Return the foreign format of lines, and the line that shows it."""
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
