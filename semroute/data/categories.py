"""Categories: their files in all formats, the folder, the shipped ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import yaml

from semroute.data.examples import (
    DATA,
    NOT_IMPORTED,
    Category,
    CategoryFile,
    CategorySet,
    Example,
    Finding,
    Notes,
    Report,
    across_categories,
    checked_lines,
    combined,
    import_hint,
    once_each,
    refuse_other_labels,
    shortened,
    way_on,
)
from semroute.data.rows import Lines, csv_rows, file_lines, json_rows, query_text, usable
from semroute.errors import DataError
from semroute.text.names import name_key, name_problem, normalize_name
from semroute.yaml_bounds import YamlBoundsError, check_yaml

# YAML to nodes with their lines.
#
# Nodes, not values: they keep duplicate keys, the text where YAML sees a number or a boolean, and lines.

MOST_BYTES = 32 << 20
MAX_NODES = 500_000
"""Most nodes of a category file; more examples belong in a .txt, .jsonl or .csv file, which are read line by line."""

# libyaml where PyYAML was built with it: ten times as fast.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_FIX = 'put quotes around text that holds ": " or " #", or that starts with a character other than a letter or a digit'


def is_plain(node: yaml.Node) -> bool:
    """Return True if ``node`` is text without quotes and not a block."""
    return isinstance(node, yaml.ScalarNode) and not node.style


class YamlFile:
    """YAML document as nodes with their lines.

    Args:
        text: the file's text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._rows = _BREAK.split(text)
        # YAML 1.1 ends lines where editors do not: at NEL, LS and PS.
        self._numbers = [1]
        for line_break in _BREAK.finditer(text):
            self._numbers.append(self._numbers[-1] + line_break[0].endswith("\n"))

    def compose(self, report: Report) -> yaml.Node | None:
        """Return the document's root; None for a file without content.

        Also None, and a report, for one that is malformed.
        """
        unprintable = yaml.reader.Reader.NON_PRINTABLE.search(self.text)
        if unprintable:
            line = self.text.count("\n", 0, unprintable.start()) + 1
            report(f"malformed YAML: the character U+{ord(unprintable[0]):04X} is not allowed; remove it", line)
            return None
        try:
            check_yaml(self.text, most_bytes=MOST_BYTES, most_nodes=MAX_NODES)
            loader = _Loader(self.text)
            try:
                node: yaml.Node | None = loader.get_single_node()
            finally:
                loader.dispose()
        except YamlBoundsError as error:
            report(str(error), None if error.row is None else self._number(error.row))
        except yaml.MarkedYAMLError as error:
            position = error.problem_mark or error.context_mark
            report(f"malformed YAML ({error.problem}); {_FIX}", self._line(position) if position else None)
        except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
            report(f"malformed YAML: {error}", None)
        else:
            return node
        return None

    def line(self, node: yaml.Node) -> int:
        """Return the 1-based line at which ``node`` starts."""
        return self._line(node.start_mark)

    def comment_after(self, node: yaml.Node) -> str | None:
        """Return the comment after unquoted text in its line, if any."""
        if not is_plain(node):
            return None
        rest = self._rows[node.end_mark.line][node.end_mark.column :].lstrip()
        return rest if rest.startswith("#") else None

    def _line(self, position: yaml.Mark) -> int:
        return self._number(position.line)

    def _number(self, row: int) -> int:
        return self._numbers[min(row, len(self._numbers) - 1)]


# A category in YAML: ``name``, ``description``, ``models``, ``threshold`` and ``examples``.

KEYS = ("description", "models", "threshold", "examples", "name")
MAX_KEY_LENGTH = 40
"""Longest prefix of an unknown key that is compared with the known ones, characters."""

_TAG = "tag:yaml.org,2002:"
_STRING = f"{_TAG}str"
_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "null", "timestamp": "a date"}


def read_yaml(text: str, notes: Notes) -> CategoryFile:
    """Read a category from YAML.

    Unusable values are left out and noted as problems.
    """
    file = YamlFile(text)
    root = file.compose(notes.problem)
    if root is None:
        if not notes.problems:
            notes.problem('is empty; give it "description", "models" and "examples"')
        return CategoryFile()
    if not isinstance(root, yaml.MappingNode):
        notes.problem(f"must be a mapping with the keys {', '.join(KEYS)}", file.line(root))
        return CategoryFile()
    foreign_format = _foreign(root)
    if foreign_format is not None:
        notes.problem(f"{foreign_format} is not read as a category; {import_hint(notes.path)}", file.line(root))
        return CategoryFile()
    return _CategoryReader(file, notes).category(root)


def _foreign(root: yaml.MappingNode) -> str | None:
    """Return the foreign format of a file; None for a category.

    Foreign formats hold several categories.
    """
    keys = {key.value: value for key, value in root.value if isinstance(key, yaml.ScalarNode)}
    if keys.keys() & {"nlu", "rasa_nlu_data"}:
        return "Rasa's training data"
    if isinstance(keys.get("routes"), yaml.SequenceNode):
        return "a file of routes"
    lists = [value for value in keys.values() if isinstance(value, yaml.SequenceNode)]
    if lists and len(lists) == len(root.value) and not keys.keys() & set(KEYS):
        return "a list for each of several categories"
    return None


class _CategoryReader:
    """Reader of the values of one category file."""

    def __init__(self, file: YamlFile, notes: Notes) -> None:
        self.file = file
        self.notes = notes

    def category(self, root: yaml.MappingNode) -> CategoryFile:
        nodes = self._values(root)
        name, description = nodes.get("name"), nodes.get("description")
        models = nodes.get("models")
        threshold = nodes.get("threshold")
        examples = nodes.get("examples")
        return CategoryFile(
            examples=() if examples is None else self._examples(examples),
            description="" if description is None else (self._string(description, "description") or ""),
            models=() if models is None else self._models(models),
            threshold=None if threshold is None else self._threshold(threshold),
            name=None if name is None else self._name(name),
        )

    def _values(self, root: yaml.MappingNode) -> dict[str, yaml.Node]:
        """Return the value of each known key, the first of a duplicate key."""
        values: dict[str, yaml.Node] = {}
        for key, value in root.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            if name not in KEYS:
                similar = difflib.get_close_matches(name[:MAX_KEY_LENGTH], KEYS, n=1)
                fix = f'did you mean "{similar[0]}"?' if similar else f"the keys are {', '.join(KEYS)}"
                self._problem(key, f"unknown key {shortened(name)}; {fix}")
            elif name in values:
                self._problem(key, f'the key "{name}" is written twice; keep one of the two')
            else:
                values[name] = value
        return values

    def _name(self, node: yaml.Node) -> str | None:
        name = self._string(node, "name")
        if name is None:
            return None
        name = normalize_name(name)
        problem = name_problem(name)
        if problem is not None:
            self._problem(node, f"name: {problem}")
        return name

    def _examples(self, node: yaml.Node) -> tuple[Example, ...]:
        if isinstance(node, yaml.ScalarNode) and not node.value:
            return ()  # reported once, for every format, by the caller: there are no examples
        texts = self._strings(node, "examples", "example")
        for item, _ in texts:
            comment = self.file.comment_after(item)
            if comment is not None:
                message = f"examples: YAML takes {shortened(comment)} for a comment; where it is part of the example"
                self.notes.warn(f"{message}, put the whole in quotes", self.file.line(item))
        return tuple(Example(text, self.file.line(item)) for item, text in texts)

    def _models(self, node: yaml.Node) -> tuple[str, ...]:
        models: dict[str, None] = {}
        for item, model in self._strings(node, "models", "model"):
            if model in models:
                self._problem(item, f'models: "{model}" is named twice; keep one of the two')
            models[model] = None
        if isinstance(node, yaml.SequenceNode) and not node.value:
            self._problem(node, "models: names no model; name one, or remove the key")
        return tuple(models)

    def _threshold(self, node: yaml.Node) -> float | None:
        try:
            # YAML 1.1 reads 1e-1, which has no point, as text.
            value = float(node.value) if is_plain(node) else None
        except ValueError:
            value = None
        if value is not None and -1 <= value <= 1:
            return value
        fix = "write it without quotes, or remove the key to leave it to the build"
        self._problem(node, f"threshold: must be a number from -1 to 1; {fix}")
        return None

    def _strings(self, node: yaml.Node, key: str, item_name: str) -> list[tuple[yaml.Node, str]]:
        if not isinstance(node, yaml.SequenceNode):
            self._problem(node, f'{key}: must be a list; write each {item_name} in a line of its own after "- "')
            return []
        strings = []
        for item in node.value:
            text = self._string(item, key)
            if text is not None:
                text = usable(text, f"{key}: the {item_name}", self.file.line(item), self.notes.problem)
            if text is not None:
                strings.append((item, text))
        return strings

    def _string(self, node: yaml.Node, key: str) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            node_kind = "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
            self._problem(
                node, f'{key}: {node_kind} where text is expected; put text that holds ": " or brackets in quotes'
            )
            return None
        text: str = node.value
        if node.tag != _STRING:
            kind = _KINDS.get(node.tag.removeprefix(_TAG), f"of the type {node.tag}")
            node_kind = f"is {kind} to YAML; put it in quotes" if text else "is empty; write it, or remove it"
            self._problem(node, f"{key}: {shortened(text) if text else 'an item'} {node_kind}")
            return None
        return text

    def _problem(self, node: yaml.Node, message: str) -> None:
        self.notes.problem(message, self.file.line(node))


Reader: TypeAlias = Callable[[Lines, Notes, str], CategoryFile]


def read_category_file(path: Path, notes: Notes, category: str | None = None) -> CategoryFile:
    """Read a category file by its extension, a key of :data:`READERS`.

    Unusable values are noted as problems.

    Args:
        path: the file.
        notes: receives problems and warnings.
        category: the category that rows with a label must have; None takes the file's name.
    """
    inner = Path(path.stem).suffix.lower()
    if category is None and inner in DATA:
        # Windows hides known extensions, and editors add another one.
        notes.problem(f'has two endings, "{inner}{path.suffix}"; rename it, and keep the one that is true')
        return CategoryFile()
    default_name = normalize_name(path.stem) if category is None else category
    content = READERS[path.suffix.lower()](file_lines(path, notes.problem), notes, default_name)
    if not content.examples and not notes.problems:
        notes.problem("a category needs examples, and this one has none; add at least five, or remove the file")
    return content


def _yaml(lines: Lines, notes: Notes, default_name: str) -> CategoryFile:
    parts, length = [], 0
    for _, text in lines:
        parts.append(text)
        length += len(text)
        if length > MOST_BYTES:  # the text read so far is refused for its length
            break
    return CategoryFile() if notes.problems else read_yaml("".join(parts), notes)


def _text(lines: Lines, notes: Notes, default_name: str) -> CategoryFile:
    non_blank = ((number, text) for number, text in lines if text.strip())
    checked = ((number, usable(text, "the example", number, notes.problem)) for number, text in non_blank)
    examples = [Example(text, number) for number, text in checked if text is not None]
    return CategoryFile(tuple(examples) if notes.problems else checked_lines(examples, notes))


def _jsonl(lines: Lines, notes: Notes, default_name: str) -> CategoryFile:
    return _examples(json_rows(lines, notes.problem), notes, default_name)


def _csv(lines: Lines, notes: Notes, default_name: str) -> CategoryFile:
    return _examples(csv_rows(lines, notes.problem, required=("query",)), notes, default_name)


def _examples(rows: Iterable[tuple[int, Mapping[str, object]]], notes: Notes, default_name: str) -> CategoryFile:
    rows = list(rows)
    refuse_other_labels(rows, default_name, notes)
    queries = ((number, query_text(row, number, notes.problem)) for number, row in rows)
    return CategoryFile(tuple(Example(text, number) for number, text in queries if text is not None))


READERS: Mapping[str, Reader] = MappingProxyType(
    {".yaml": _yaml, ".yml": _yaml, ".txt": _text, ".jsonl": _jsonl, ".csv": _csv}
)
"""Readers of the category formats by lower-case extension."""


# Folder of the shipped categories.

_HERE = Path(__file__).resolve().parent


def shipped_folder() -> Path:
    """Return the folder of the shipped categories.

    It is inside the package where that was installed, else next to it in a checkout.

    Raises:
        DataError: neither exists.
    """
    installed = _HERE / "shipped"
    root = _HERE.parents[1]
    checkout = root / "categories"
    if installed.is_dir():
        return installed
    # Installed, the package's neighbours are other people's packages: only a project file makes it a checkout.
    if (root / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    raise DataError(
        "the shipped categories are missing from this installation: pip install --force-reinstall semroute-router",
        path=installed,
    )


# Category folders: a file for each category.

FEW_EXAMPLES = 5
"""Least number of examples with which a category can be validated."""

_LOOKS_LIKE_DATA = frozenset(
    {".arrow", ".feather", ".gz", ".json", ".ndjson", ".ods", ".parquet", ".tsv", ".xls", ".xlsx", ".xml", ".zip"}
)


def read_categories(folder: Path | str) -> CategorySet:
    """Read every category of a folder.

    A category is a file named after it: ``.yaml`` or ``.yml`` with ``description``, ``models``, ``threshold``,
    ``examples``, and ``name`` where the category's is another than the file's; ``.txt`` with an example in each line
    that is not blank; ``.jsonl`` or ``.csv`` with a ``query`` in each row. Files are UTF-8. Whitespace around an
    example is dropped, and an example that stands twice in a category is kept once. Hidden files, READMEs, sub-folders
    and other extensions are not read.

    Raises:
        DataError: the folder or a file in it cannot be used. The message has one line for each problem, with file, line
            and fix; ``path`` and ``line`` are those of the first.
    """
    folder = Path(folder)
    files, findings = _files(folder)
    problems: list[Finding] = []
    read: list[tuple[Path, CategoryFile]] = []
    for path in files:
        notes = Notes(path)
        content = once_each(read_category_file(path, notes), notes)
        _few(content, notes)
        read.append((path, content))
        problems += sorted(notes.problems, key=lambda problem: problem.line or 0)
        findings += notes.warnings
    problems += _name_problems(read)
    if problems:
        raise combined(problems)
    findings += _near_names(read)
    findings += across_categories(read)
    categories = sorted((_category(path, content) for path, content in read), key=lambda category: category.name)
    return CategorySet(tuple(categories), tuple(findings))


def _files(folder: Path) -> tuple[list[Path], list[Finding]]:
    """Return the category files, and findings on other likely ones."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        raise DataError("no such folder; make it, with a file for each category", path=folder) from None
    except NotADirectoryError:
        raise DataError("is a file; name the folder that holds the category files", path=folder) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path=folder) from error
    files, findings, ignored = [], [], []
    for path in entries:
        suffix = path.suffix.lower()
        if path.name.startswith(".") or path.name.lower().startswith("readme"):
            continue
        ignored.append(path)
        if path.is_dir():
            findings.append(Finding("is a folder and is not read; put category files next to it, not in it", path))
        elif suffix in READERS:
            files.append(path)
        elif suffix in _LOOKS_LIKE_DATA:
            findings.append(Finding(f"is not read; a category file is one of {', '.join(READERS)}", path))
    if not files:
        raise DataError(_nothing_to_read(folder, ignored), path=folder)
    return files, findings


def _nothing_to_read(folder: Path, ignored: Sequence[Path]) -> str:
    """Return a message for a folder without category files, with the remedy."""
    if not ignored:
        return f"holds no category file; add one for each category, such as code.yaml ({', '.join(READERS)})"
    names = [path.name + "/" if path.is_dir() else path.name for path in ignored]
    shown = ", ".join(shortened(name)[1:-1] for name in names[:5])
    rest = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    suffixes = {path.suffix.lower() for path in ignored if not path.is_dir()}
    is_single = len(suffixes) == 1 and not any(path.is_dir() for path in ignored)
    remedy = way_on(ignored[0]) if is_single and suffixes <= NOT_IMPORTED else import_hint(folder)
    return f"holds no category file ({', '.join(READERS)}), but {shown}{rest}; {remedy}"


def _name_problems(read: Sequence[tuple[Path, CategoryFile]]) -> list[Finding]:
    problems = []
    first: dict[str, Path] = {}
    for path, content in read:
        name = _name(path, content)
        problem = name_problem(name) if content.name is None else None  # a name in the file was checked there
        if problem is not None:
            problems.append(Finding(f'{problem}; rename the file, or give it a "name"', path))
        elif name in first:
            message = f'the category "{name}" is also in {first[name].name}; put both in one file, or rename one'
            problems.append(Finding(message, path))
        first.setdefault(name, path)
    return problems


def _near_names(read: Sequence[tuple[Path, CategoryFile]]) -> list[Finding]:
    """Return a finding for each set of names that differ only in case.

    Such categories are most likely meant to be one.
    """
    first: dict[str, str] = {}
    findings = []
    for path, content in read:
        name = _name(path, content)
        first_name = first.setdefault(name_key(name), name)
        if first_name != name:
            message = (
                f'the category "{name}" and "{first_name}" differ in case alone; rename one, or put both in one file'
            )
            findings.append(Finding(message, path))
    return findings


def _few(content: CategoryFile, notes: Notes) -> None:
    count = len(content.examples)
    if count == 1:
        notes.warn(f"a category with a single example; give it at least {FEW_EXAMPLES}")
    elif 1 < count < FEW_EXAMPLES:
        notes.warn(f"a category with {count} examples; give it at least {FEW_EXAMPLES}")


def _category(path: Path, content: CategoryFile) -> Category:
    return Category(
        name=_name(path, content),
        description=content.description,
        models=content.models,
        examples=tuple(example.text for example in content.examples),
        threshold=content.threshold,
        source=path,
    )


def _name(path: Path, content: CategoryFile) -> str:
    return normalize_name(path.stem) if content.name is None else content.name
