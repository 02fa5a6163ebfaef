"""A folder with one file for each category."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semroute.categories.foreign import NOT_IMPORTED, import_hint, way_on
from semroute.categories.formats import READERS, read_category_file
from semroute.categories.model import Category, CategorySet, Finding
from semroute.categories.notes import Notes, combined, shortened
from semroute.categories.parts import CategoryFile
from semroute.categories.repeats import across_categories, once_each
from semroute.errors import DataError
from semroute.texts.names import name_key, name_problem, normalize_name

FEW_EXAMPLES = 5
"""Below this many examples a category cannot be validated."""

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
    """The category files, and what is there beside them that looks as if it ought to be read."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        raise DataError("no such folder; make it, with a file for each category", path=folder) from None
    except NotADirectoryError:
        raise DataError("is a file; name the folder that holds the category files", path=folder) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path=folder) from error
    files, findings, others = [], [], []
    for path in entries:
        suffix = path.suffix.lower()
        if path.name.startswith(".") or path.name.lower().startswith("readme"):
            continue
        others.append(path)
        if path.is_dir():
            findings.append(Finding("is a folder and is not read; put category files beside it, not in it", path))
        elif suffix in READERS:
            files.append(path)
        elif suffix in _LOOKS_LIKE_DATA:
            findings.append(Finding(f"is not read; a category file is one of {', '.join(READERS)}", path))
    if not files:
        raise DataError(_nothing_to_read(folder, others), path=folder)
    return files, findings


def _nothing_to_read(folder: Path, others: Sequence[Path]) -> str:
    """What lies in a folder without category files, and the way on."""
    if not others:
        return f"holds no category file; add one for each category, such as code.yaml ({', '.join(READERS)})"
    names = [path.name + "/" if path.is_dir() else path.name for path in others]
    listed = ", ".join(shortened(name)[1:-1] for name in names[:5])
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    suffixes = {path.suffix.lower() for path in others if not path.is_dir()}
    lone = len(suffixes) == 1 and not any(path.is_dir() for path in others)
    way = way_on(others[0]) if lone and suffixes <= NOT_IMPORTED else import_hint(folder)
    return f"holds no category file ({', '.join(READERS)}), but {listed}{more}; {way}"


def _name_problems(read: Sequence[tuple[Path, CategoryFile]]) -> list[Finding]:
    problems = []
    first: dict[str, Path] = {}
    for path, content in read:
        name = _name(path, content)
        problem = name_problem(name) if content.name is None else None  # a name in the file has been checked there
        if problem is not None:
            problems.append(Finding(f'{problem}; rename the file, or give it a "name"', path))
        elif name in first:
            message = f'the category "{name}" is also in {first[name].name}; put both in one file, or rename one'
            problems.append(Finding(message, path))
        first.setdefault(name, path)
    return problems


def _near_names(read: Sequence[tuple[Path, CategoryFile]]) -> list[Finding]:
    """A finding for categories whose names differ in case alone: they are most likely meant to be one."""
    first: dict[str, str] = {}
    findings = []
    for path, content in read:
        name = _name(path, content)
        other = first.setdefault(name_key(name), name)
        if other != name:
            message = f'the category "{name}" and "{other}" differ in case alone; rename one, or put both in one file'
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
