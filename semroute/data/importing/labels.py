"""Map labels to names of categories.

Numbers are mapped by a list of names, and words for "out of scope" to none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from semroute.data.examples import shortened
from semroute.data.importing.records import ImportNotes, ImportOptions, ImportSource
from semroute.data.importing.tables import integer_label
from semroute.data.queries import is_out_of_scope
from semroute.data.rows import kind
from semroute.errors import DataError
from semroute.text.names import name_problem, normalize_name
from semroute.yaml_bounds import YamlBoundsError, check_yaml

_MOST_NODES = 100_000
_FRONT = re.compile(r"\A---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
_TABLE_ROW = re.compile(r"^\s*\|\s*`?(\d{1,6})`?\s*\|\s*`?([^|`]+?)`?\s*\|", re.MULTILINE)
_ITEM = re.compile(
    r"^[ \t]*(?:[-*+]\s+)?[`\"']?(\d{1,6})[`\"']?[ \t]*(?:[:=,;\t]|->|[-\u2013\u2014]\s| )[ \t]*(.+?)[ \t]*,?[ \t\r]*$",
    re.MULTILINE,
)
_INLINE = re.compile(r"([\w][\w /&+-]*?)\s*\((\d{1,6})\)")
_BEFORE = re.compile(r"^(?:.*\b(?:with|are|is|be|include|includes)|and|or)\s+")
"""Words of a sentence before the first of the names in it."""


class LabelReader:
    """Map the value of a label to categories.

    Args:
        options: what to do with several labels.
        notes: receives rows that are left out.
        path: the file that the labels are from.
        names: of labels that are numbers; empty where none are known.
        names_path: the file of the names, for messages.
    """

    def __init__(
        self,
        options: ImportOptions,
        notes: ImportNotes,
        path: Path,
        names: Mapping[int, str] | None = None,
        names_path: Path | None = None,
    ) -> None:
        self._several, self._outside = options.several, options.outside
        self._notes, self._path = notes, path
        self._names, self._names_path = names or {}, names_path

    def categories(self, value: object, line: int | None) -> tuple[str, ...]:
        """Return the categories of a row; none, with a note, if it is left out.

        Raises:
            DataError: a number that the file of names does not name.
        """
        values = value if isinstance(value, list | tuple) else [value]
        categories: dict[str, None] = {}
        for label in values:
            name = self._category(label, line)
            if isinstance(name, str):
                categories[name] = None
        if len(categories) > 1 and self._several != "each":
            if self._several == "skip":
                reason = "a row of several labels (--several first takes the first of them, each takes all)"
                self._notes.skip(self._path, reason, line)
                return ()
            return tuple(categories)[:1]
        if not values:
            self._notes.skip(self._path, "a row without a label", line)
        return tuple(categories)

    def _category(self, value: object, line: int | None) -> str | None:
        number = integer_label(value)
        if number is not None:
            return self._numbered(number, line)
        if isinstance(value, bool):
            return str(value).lower()
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return "" if self._outside else self._left_out("a row without a label", line)
        if not isinstance(value, str):
            return self._left_out(f"the label is {kind(value)}, where a name is expected", line)
        if is_out_of_scope(value) and self._outside:
            return value.strip()
        if is_out_of_scope(value):
            return self._left_out("out of scope; such queries are for --validation, tune and evaluate", line)
        name = label_name(value)
        problem = name_problem(name)
        return name if problem is None else self._left_out(f"{shortened(name)}: {problem}", line)

    def _numbered(self, number: int, line: int | None) -> str | None:
        if number < 0 and self._outside:
            return ""
        if number < 0:
            return self._left_out(f"the label {number}, which stands for none", line)
        if not self._names:
            return str(number)
        if number not in self._names:
            label_range = f"{min(self._names)} to {max(self._names)}"
            source = "the file's own names" if self._names_path is None else str(self._names_path)
            fix = 'where labels count from 1, write numbers and names, "1: first"'
            raise DataError(
                f"the label {number} has no name: {source} has {label_range}; {fix}", path=self._path, line=line
            )
        return self._names[number]

    def _left_out(self, reason: str, line: int | None) -> str | None:
        self._notes.skip(self._path, reason, line)
        return None


def label_name(value: str) -> str:
    """Normalise a label to a category's name: composed, single spaces."""
    return normalize_name(" ".join(value.replace("\u200b", "").replace("\ufeff", "").split()))


def read_names(path: Path, column: str | None) -> dict[int, str]:
    """Read the names of numbered labels.

    Reads a name a line, ``0: name`` lines, CSV, JSON and YAML (a list; numbers to names or names to numbers;
    ``id2label`` of a model; ``dataset_info.json``), and the card of a data set: its header's ``class_label``, else a
    table, a list, or names with their numbers in brackets.

    Args:
        path: the file.
        column: the column of the labels, where a file describes several.

    Raises:
        DataError: it cannot be read, or no names are found in it.
    """
    text = ImportSource(path, ImportOptions()).text()
    suffix = path.suffix.lower()
    names: dict[int, str] | None = None
    if suffix == ".json":
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise DataError("malformed JSON; write a list of names", path=path) from None
        names = _from_values(values, column)
    elif suffix in (".yaml", ".yml"):
        names = _from_values(_yaml(text, path), column)
    else:
        front_matter = _FRONT.match(text) if suffix in (".md", ".markdown") else None
        names = _from_values(_yaml(front_matter[1], path), column) if front_matter else None
        names = names or _from_text(text[front_matter.end() :] if front_matter else text, suffix)
    if not names:
        raise DataError("no names of labels found; write one a line, the first for label 0", path=path)
    checked = {number: label_name(str(name)) for number, name in names.items()}
    for number, name in checked.items():
        problem = name_problem(name)
        if problem is not None:
            raise DataError(f"the name of label {number}: {problem}", path=path)
    duplicates = len(checked) - len(set(checked.values()))
    if duplicates:
        raise DataError(
            f"{duplicates} of the {len(checked)} labels have the name of another; keep them apart", path=path
        )
    return checked


def names_in_features(features: object) -> dict[str, dict[int, str]]:
    """Extract label names by column from a data set's features.

    The features are an object or a list of them, at any depth.
    """
    names_by_column: dict[str, dict[int, str]] = {}
    for column, described in _described(features):
        names = described.get("names")
        numbered_names = _numbered(names) if isinstance(names, list | dict) else None
        if numbered_names:
            names_by_column.setdefault(column, numbered_names)
    return names_by_column


def _described(values: object, column: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every description of numbered labels with its column."""
    if depth > 12:
        return
    if isinstance(values, list):
        for value in values:
            yield from _described(value, column, depth + 1)
    elif isinstance(values, dict):
        if isinstance(values.get("names"), list | dict):
            yield column, values
        name = values.get("name")
        for key, value in values.items():
            inner = name if isinstance(name, str) else column
            structural = key in ("class_label", "dtype", "type", "feature", "features", "sequence", "dataset_info")
            yield from _described(value, inner if structural else str(key), depth + 1)


def _from_values(values: Any, column: str | None) -> dict[int, str] | None:
    if isinstance(values, dict):
        for key in ("id2label", "label2id"):
            if isinstance(values.get(key), dict):
                return _numbered(values[key])
        described = names_in_features(values)
        short_name = None if column is None else column.rsplit(".", 1)[-1]
        if short_name in described:
            return described[short_name]
        if len(described) == 1:
            return next(iter(described.values()))
        if described:
            raise DataError(f"several columns have names of labels: {', '.join(described)}; name one with --label")
    return _numbered(values)


def _numbered(values: Any) -> dict[int, str] | None:
    """Map numbers to names from a list, or an object in either direction.

    None for anything else.
    """
    if isinstance(values, list):
        return dict(enumerate(values)) if values and all(isinstance(value, str) for value in values) else None
    if not isinstance(values, dict) or not values:
        return None
    for pairs in (list(values.items()), [(value, key) for key, value in values.items()]):
        numbers = {integer_label(number): name for number, name in pairs if isinstance(name, str)}
        if len(numbers) == len(pairs) and None not in numbers:
            return {number: name for number, name in numbers.items() if number is not None}
    return None


def _from_text(text: str, suffix: str) -> dict[int, str] | None:
    for numbered_names in (
        _TABLE_ROW.findall(text),
        _ITEM.findall(text),
        [(number, _BEFORE.sub("", name)) for name, number in _INLINE.findall(text)],
    ):
        names = _contiguous(numbered_names)
        if names:
            return names
    if suffix in (".md", ".markdown"):
        return None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return dict(enumerate(lines)) or None


def _contiguous(pairs: Iterable[tuple[str, str]]) -> dict[int, str] | None:
    """Map the numbers 0 to n-1 to names; None where there are gaps.

    What has gaps is a list of something else.
    """
    names: dict[int, str] = {}
    for number, name in pairs:
        names.setdefault(int(number), name.strip().strip("`\"'*"))
    return dict(sorted(names.items())) if len(names) > 1 and sorted(names) == list(range(len(names))) else None


def _yaml(text: str, path: Path) -> Any:
    try:
        check_yaml(text, most_bytes=1 << 22, most_nodes=_MOST_NODES)
        return yaml.safe_load(text)
    except YamlBoundsError as error:
        raise DataError(str(error), path=path) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"malformed YAML: {str(error).splitlines()[0]}", path=path) from None
