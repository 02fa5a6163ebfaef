"""Gather labelled texts into categories, and write them to YAML files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from semroute.data.categories import MAX_NODES, MOST_BYTES, READERS, read_categories, read_category_file
from semroute.data.examples import DATA, Category, CategorySet, Finding, LabelledQuery, Notes, shortened
from semroute.data.importing.records import ImportedRecord, ImportNotes, ImportOptions
from semroute.data.importing.sources import file_records, first_columns, folder_records
from semroute.data.queries import is_out_of_scope, read_labelled
from semroute.data.rows import usable
from semroute.errors import DataError, MissingExtraError
from semroute.storage import sync
from semroute.text.names import name_key, normalize_name

MAX_STEM_BYTES = 100
"""Longest stem, bytes of UTF-8: file systems take 255 with the extension, and less where they encrypt names."""
LISTED = 5
# Characters that Windows does not allow in a name, or that lead into other folders.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True)
class Written:
    """Files of an import.

    Attributes:
        files: the file of each category, by its name.
        others: category files that the folder held before and still holds.
    """

    files: Mapping[str, Path]
    others: Sequence[Path]


def plan_files(categories: Sequence[Category], out: Path, *, force: bool = False) -> Written:
    """Choose a file name for each category, distinct in any case.

    Raises:
        DataError: a file is there already and ``force`` is not given, or another file of ``out`` is one of the
            categories.
    """
    taken: set[str] = set()
    files: dict[str, Path] = {}
    for category in categories:
        stem = base = file_stem(category.name)
        number = 1
        while name_key(stem) in taken:
            number += 1
            stem = f"{base}-{number}"
        taken.add(name_key(stem))
        files[category.name] = out / f"{stem}.yaml"
    if out.exists() and not out.is_dir():
        raise DataError("is a file; name a folder to write to", path=out)
    present = sorted(path for path in out.iterdir() if not path.name.startswith(".")) if out.is_dir() else []
    keys = {name_key(path.name) for path in files.values()}
    same = [path for path in present if name_key(path.name) in keys]
    if same and not force:
        listed = _listed(path.name for path in same)
        raise DataError(f"holds {listed} already; --force replaces them, or name another --out", path=out)
    others = [path for path in present if path not in same and path.suffix.lower() in READERS]
    for path in others:
        name = _own_name(path)
        if name in files:
            message = f'is a file of the category "{name}" already; remove it, or name another --out'
            raise DataError(message, path=path)
    return Written(files, others)


def write_categories(categories: Sequence[Category], out: Path, *, force: bool = False) -> Written:
    """Write a category file for each category.

    Existing ones are replaced only with ``force``, and only once all are on disk.

    Raises:
        DataError: as :func:`plan_files`; or the folder cannot be written.
    """
    plan = plan_files(categories, out, force=force)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix=".import-") as staging:
            for category in categories:
                target = plan.files[category.name]
                part = Path(staging) / target.name
                part.write_bytes(_content(category, target).encode("utf-8"))
                sync(part)
            for target in plan.files.values():
                (Path(staging) / target.name).replace(target)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", path=out) from error
    return plan


def file_stem(name: str) -> str:
    """Derive a file name that is valid on any system from a category's.

    It stays as close to the category's name as that allows, with an extension of a category file.
    """
    stem = _FORBIDDEN.sub("_", normalize_name(name)).strip(" ")
    stem = "_" + stem[1:] if stem.startswith(".") else stem
    stem = stem[:-1] + "_" if stem.endswith(".") else stem
    if Path(stem).suffix.lower() in DATA:
        head, _, tail = stem.rpartition(".")
        stem = f"{head}_{tail}"
    if stem.lower().startswith("readme") or _RESERVED.fullmatch(stem):
        stem = f"_{stem}"
    raw = stem.encode("utf-8")
    if len(raw) > MAX_STEM_BYTES:
        stem = unicodedata.normalize("NFC", raw[:MAX_STEM_BYTES].decode("utf-8", "ignore")).rstrip(" .")
    return stem or "_"


def _content(category: Category, target: Path) -> str:
    """Render a category file, with ``name`` where the file's differs."""
    values: dict[str, object] = {}
    if normalize_name(target.stem) != category.name:
        values["name"] = category.name
    if category.description:
        values["description"] = category.description
    values["examples"] = list(category.examples)
    text: str = yaml.dump(values, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=1 << 30)
    if len(text) > MOST_BYTES or len(category.examples) >= MAX_NODES:
        message = f'"{category.name}" has {len(category.examples):,} examples, too many for a YAML file; import fewer'
        raise DataError(message, path=target)
    return text


def _own_name(path: Path) -> str:
    if path.suffix.lower() in (".yaml", ".yml"):
        content = read_category_file(path, Notes(path))
        if content.name is not None:
            return content.name
    return normalize_name(path.stem)


def _listed(names: Iterable[str]) -> str:
    all_names = list(names)
    return ", ".join(all_names[:LISTED]) + (f" and {len(all_names) - LISTED:,} more" if len(all_names) > LISTED else "")


# Gather labelled texts into categories and labelled queries.

MANY_LABELS = 0.5
"""Ratio of labels to rows from which on they are most likely no categories."""
_SUSPICIOUS_ROWS = 20


@dataclass(frozen=True, slots=True)
class Gathered:
    """Categories from labelled data.

    Attributes:
        categories: sorted by name; the examples in the order of the data, each once.
        rows: texts with a label that were read.
        duplicates: rows whose text its category had already.
        shared: texts that more than one category has.
        guesses: choices where the data could be read in another way.
        skipped: rows left out: a finding for each reason, with the first line.
        warnings: likely mistakes.
        is_labelled: whether every text has a label of its own, and none stands under the name of its file.
    """

    categories: tuple[Category, ...]
    rows: int
    duplicates: int
    shared: int
    guesses: tuple[Finding, ...]
    skipped: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    is_labelled: bool = True

    @property
    def examples(self) -> int:
        """Number of examples in all categories."""
        return sum(len(category.examples) for category in self.categories)


def gather(path: Path, options: ImportOptions | None = None) -> Gathered:
    """Read labelled data from a file of any format, or a folder of files.

    Raises:
        DataError: it cannot be read, or not without an option; nothing usable is in it.
        MissingExtraError: a Parquet file, and the extra is not installed.
    """
    options, notes = options or ImportOptions(), ImportNotes()
    examples: dict[str, dict[str, None]] = {}
    rows = duplicates = 0
    for source_path, record in _records(path, options, notes):
        text = _text(record, source_path, notes)
        if text is None:
            continue
        rows += 1
        assert record.label is not None
        texts = examples.setdefault(record.label, {})
        duplicates += text in texts
        texts[text] = None
    skipped = tuple(Finding(message, source_path, line) for source_path, line, message in notes.skipped_messages())
    if not examples:
        reason = f": {skipped[0].message}" if skipped else ""
        raise DataError(f"holds no labelled texts{reason}", path=path)
    categories = tuple(
        Category(name, notes.descriptions.get(name, ""), (), tuple(examples[name]), None, path)
        for name in sorted(examples)
    )
    category_counts: dict[str, int] = {}
    for texts in examples.values():
        for text in texts:
            category_counts[text] = category_counts.get(text, 0) + 1
    return Gathered(
        categories=categories,
        rows=rows,
        duplicates=duplicates,
        shared=sum(count > 1 for count in category_counts.values()),
        guesses=tuple(Finding(message, source_path) for source_path, message in notes.guesses),
        skipped=skipped,
        warnings=tuple(_warnings(path, categories, rows)),
        is_labelled=not notes.unlabelled,
    )


def read_source(source: Path) -> CategorySet:
    """Read categories from a folder of category files or a labelled file.

    Raises:
        DataError: it cannot be read.
        MissingExtraError: a Parquet file, and the extra is not installed.
    """
    if not source.is_file():
        return read_categories(source)
    gathered = gather(source)
    if not gathered.is_labelled:
        fix = "name the folder of category files, or a file with a label for each text"
        raise DataError(f"is a file without labels, one category alone; {fix}", path=source)
    return CategorySet(gathered.categories, (*gathered.guesses, *gathered.skipped, *gathered.warnings))


def read_queries(
    path: Path, options: ImportOptions | None = None, warn: Callable[[Finding], object] = lambda finding: None
) -> list[LabelledQuery]:
    """Read labelled queries from a file of any format.

    A file with ``query`` and ``category`` is read strictly, by :func:`~semroute.data.queries.read_labelled`.

    Args:
        path: a file with ``query`` and ``category`` in each row, else in any of the formats of the package.
        options: columns and names, where they are given; None leaves them to the file.
        warn: called for every guess, and for rows that are left out.

    Raises:
        DataError: it cannot be read, or not without an option.
        MissingExtraError: a Parquet file, and the extra is not installed.
    """
    if options is None and path.suffix.lower() in (".csv", ".jsonl", ".parquet") and not _has_other_columns(path):
        return read_labelled(path, warn)
    notes, rows = ImportNotes(), []
    for record in file_records(path, replace(options or ImportOptions(), outside=True), notes):
        text = _text(record, path, notes)
        if text is not None:
            label = record.label or ""
            outside = not label or is_out_of_scope(label)
            rows.append(
                LabelledQuery(text, None if outside else label, (label or None) if outside else None, record.line)
            )
    for source_path, message in notes.guesses:
        warn(Finding(message, source_path))
    for source_path, line, message in notes.skipped_messages():
        warn(Finding(message, source_path, line))
    if not rows:
        raise DataError("holds no labelled queries", path=path)
    return rows


def _has_other_columns(path: Path) -> bool:
    """Return True if a readable file has other columns than labelled files."""
    try:
        columns = first_columns(path)
    except (DataError, MissingExtraError):
        return False
    return "query" not in columns or (path.suffix.lower() != ".jsonl" and "category" not in columns)


def _records(path: Path, options: ImportOptions, notes: ImportNotes) -> Iterator[tuple[Path, ImportedRecord]]:
    if path.is_dir():
        yield from folder_records(path, options, notes)
    else:
        for record in file_records(path, options, notes):
            yield path, record


def _text(record: ImportedRecord, path: Path, notes: ImportNotes) -> str | None:
    return usable(record.text, "the text", record.line or 0, lambda message, line: _skip(notes, path, message, record))


def _skip(notes: ImportNotes, path: Path, message: str, record: ImportedRecord) -> None:
    notes.skip(path, message.partition(";")[0], record.line)


def _warnings(path: Path, categories: tuple[Category, ...], rows: int) -> Iterator[Finding]:
    first_spelling: dict[str, str] = {}
    for category in categories:
        first_name = first_spelling.setdefault(name_key(category.name), category.name)
        if first_name != category.name:
            both_names = f"{shortened(first_name)} and {shortened(category.name)}"
            yield Finding(f"the labels {both_names} differ in case alone; they are kept apart", path)
    if len(categories) == 1:
        yield Finding(
            f"there is one category alone, {shortened(categories[0].name)}; is that the column of labels?", path
        )
    elif rows >= _SUSPICIOUS_ROWS and len(categories) > MANY_LABELS * rows:
        message = f"{len(categories):,} categories in {rows:,} rows; is that the column of labels?"
        yield Finding(message, path)
