"""A folder with one file for each category."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from semroute.categories.formats import READERS, read_category_file
from semroute.categories.model import Category, CategorySet, Finding
from semroute.categories.notes import Notes, combined
from semroute.categories.parts import CategoryFile
from semroute.categories.repeats import across_categories, once_each
from semroute.errors import DataError

FEW_EXAMPLES = 5
"""Below this many examples a category cannot be validated."""

_LOOKS_LIKE_DATA = frozenset(
    {".arrow", ".feather", ".gz", ".json", ".ndjson", ".ods", ".parquet", ".tsv", ".xls", ".xlsx", ".xml", ".zip"}
)


def read_categories(folder: Path | str) -> CategorySet:
    """Read every category of a folder.

    A category is a file named after it: ``.yaml`` or ``.yml`` with ``description``, ``models``, ``threshold`` and
    ``examples``; ``.txt`` with an example in each line that is not blank; ``.jsonl`` or ``.csv`` with a ``query`` in
    each row. Files are UTF-8. Whitespace around an example is dropped, and an example that stands twice in a category
    is kept once. Hidden files, READMEs, sub-folders and other extensions are not read.

    Raises:
        DataError: the folder or a file in it cannot be used. The message has one line for each problem, with file, line
            and fix; ``path`` and ``line`` are those of the first.
    """
    folder = Path(folder)
    files, findings = _files(folder)
    problems = _name_problems(files)
    read: list[tuple[Path, CategoryFile]] = []
    for path in files:
        notes = Notes(path)
        content = once_each(read_category_file(path, notes), notes)
        _few(content, notes)
        read.append((path, content))
        problems += sorted(notes.problems, key=lambda problem: problem.line or 0)
        findings += notes.warnings
    if problems:
        raise combined(problems)
    findings += across_categories(read)
    categories = sorted((_category(path, content) for path, content in read), key=lambda category: category.name)
    return CategorySet(tuple(categories), tuple(findings))


def _files(folder: Path) -> tuple[list[Path], list[Finding]]:
    """The category files, and what is there beside them that looks as if it ought to be read."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        raise DataError("no such folder; make it, with a file for each category", path=folder) from None
    except NotADirectoryError:
        raise DataError("is a file; name the folder that holds the category files", path=folder) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path=folder) from error
    files, findings = [], []
    for path in entries:
        suffix = path.suffix.lower()
        if path.name.startswith(".") or path.name.lower().startswith("readme"):
            continue
        if path.is_dir():
            findings.append(Finding("is a folder and is not read; put category files beside it, not in it", path))
        elif suffix in READERS:
            files.append(path)
        elif suffix in _LOOKS_LIKE_DATA:
            findings.append(Finding(f"is not read; a category file is one of {', '.join(READERS)}", path))
    if not files:
        message = f"holds no category file; add one for each category, such as code.yaml ({', '.join(READERS)})"
        raise DataError(message, path=folder)
    return files, findings


def _name_problems(files: Sequence[Path]) -> list[Finding]:
    problems = []
    first: dict[str, Path] = {}
    for path in files:
        name = _name(path)
        if not is_name(name):
            message = "a category's name may hold letters, digits, _, -, . and, inside it, spaces; rename the file"
            problems.append(Finding(message, path))
        elif name in first:
            message = f'the category "{name}" is also in {first[name].name}; put both in one file, or rename one'
            problems.append(Finding(message, path))
        first.setdefault(name, path)
    return problems


def _few(content: CategoryFile, notes: Notes) -> None:
    count = len(content.examples)
    if count == 1:
        notes.warn(f"a category with a single example; give it at least {FEW_EXAMPLES}")
    elif 1 < count < FEW_EXAMPLES:
        notes.warn(f"a category with {count} examples; give it at least {FEW_EXAMPLES}")


def _category(path: Path, content: CategoryFile) -> Category:
    return Category(
        name=_name(path),
        description=content.description,
        models=content.models,
        examples=tuple(example.text for example in content.examples),
        threshold=content.threshold,
        source=path,
    )


def is_name(name: str) -> bool:
    """Whether a category may be called so."""
    # Marks too: in many scripts a vowel is one.
    return name == name.strip() != "" and all(c in "_-. " or unicodedata.category(c)[0] in "LMN" for c in name)


def _name(path: Path) -> str:
    # macOS hands out decomposed names, which would not equal the same name typed into a configuration.
    return unicodedata.normalize("NFC", path.stem)
