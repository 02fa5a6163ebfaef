"""Detect the format of a file or folder, and read its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from semroute._optional import require
from semroute.data.examples import import_hint, shortened
from semroute.data.importing.labels import LabelReader, names_in_features, read_names
from semroute.data.importing.records import (
    ImportedRecord,
    ImportNotes,
    ImportOptions,
    ImportShapeError,
    ImportSource,
    Records,
)
from semroute.data.importing.shapes import (
    fasttext_records,
    is_fasttext,
    is_markdown,
    line_records,
    markdown_records,
    markdown_table,
    split_of,
    tree_records,
)
from semroute.data.importing.tables import (
    LABELS,
    TEXTS,
    Rows,
    Skip,
    Table,
    chosen_columns,
    delimited_table,
    integer_label,
    json_lines_table,
)
from semroute.data.importing.trees import json_tree, yaml_tree
from semroute.data.rows import parquet_rows
from semroute.errors import DataError

_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "README.md")
"""Files with the description of a data set, in its folder."""
_TEXT_SUFFIXES = ("", ".txt", ".text")


def file_records(path: Path, options: ImportOptions, notes: ImportNotes, default: str | None = None) -> Records:
    """Yield the records of a file in any format, with category names.

    Args:
        path: the file.
        options: how to read it, where there is more than one way.
        notes: receives guesses and rows that are left out.
        default: the category of texts without one in the file; None takes the file's name, and notes it.

    Raises:
        DataError: it cannot be read, or not without an option, which the message names.
        MissingExtraError: a Parquet file, and the extra is not installed.
    """
    source = ImportSource(path, options)
    all_records = _READERS.get(source.suffix, _by_content)(source, options, notes)
    records = _table_records(all_records, source, options, notes) if isinstance(all_records, Table) else all_records
    reader = LabelReader(options, notes, path)
    category = default or source.stem
    for record in records:
        if record.label is None and path not in notes.unlabelled:
            notes.unlabelled.add(path)
            if default is None:
                notes.guess(path, f"no labels: everything belongs to {shortened(category)}, as the file is called")
        if record.label is None and options.outside:
            raise DataError("has no labels; name the column that holds them with --label", path=path)
        label = category if record.label is None else record.label
        yield from (replace(record, label=name) for name in reader.categories(label, record.line))


def first_columns(path: Path) -> Sequence[str]:
    """Return the columns of a table; none for other files.

    Raises:
        DataError: it cannot be read.
        MissingExtraError: a Parquet file, and the extra is not installed.
    """
    options = ImportOptions()
    source = ImportSource(path, options)
    if source.suffix in (".parquet", ".pq"):
        return tuple(parquet_schema(source).names)
    try:
        table = _READERS.get(source.suffix, _by_content)(source, options, ImportNotes())
    except ImportShapeError:
        return ("query", "category")  # problems are reported by the reader of labelled files
    return table.columns if isinstance(table, Table) else ()


def _table_records(table: Table, source: ImportSource, options: ImportOptions, notes: ImportNotes) -> Records:
    chosen = chosen_columns(table, options, notes, source)
    reader = LabelReader(options, notes, source.path, *_label_names(chosen.label, table, source, options, notes))
    for number, row in table.rows(lambda message, line: notes.skip(source.path, message, line)):
        text = row.get(chosen.text)
        if not isinstance(text, str):
            reason = (
                f"no text under {shortened(chosen.text)}" if text is None else f"{shortened(chosen.text)} is no text"
            )
            notes.skip(source.path, reason, number)
        elif not text.strip():
            notes.skip(source.path, "the text is blank", number)
        elif chosen.label is None:
            yield ImportedRecord(text, None, number)
        else:
            yield from (ImportedRecord(text, name, number) for name in reader.categories(row.get(chosen.label), number))


def _label_names(
    label: str | None, table: Table, source: ImportSource, options: ImportOptions, notes: ImportNotes
) -> tuple[dict[int, str], Path | None]:
    """Find names of numbered labels: ``--names``, the file, or one next to it."""
    if label is None:
        return {}, None
    if options.names is not None:
        return read_names(options.names, label), options.names
    sample = [row.get(label) for row in table.sample()]
    if not sample or any(integer_label(value) is None for value in sample if value is not None):
        return {}, None
    in_file = table.class_names.get(label)
    if in_file:
        notes.guess(source.path, "names of the labels from the description of the data in the file")
        return dict(in_file), None
    largest = max((number for value in sample if (number := integer_label(value)) is not None), default=0)
    for path in (source.path.parent / name for name in _DESCRIPTIONS):
        described = _described(path, label)
        if len(described) > max(1, largest):
            notes.guess(source.path, f"names of the labels from {path.name}")
            return described, path
    fix = "--names FILE names them (a name a line, dataset_info.json, or the data set's README.md)"
    notes.guess(source.path, f"the labels are numbers, and so are the categories' names; {fix}")
    return {}, None


def _described(path: Path, label: str) -> dict[int, str]:
    """Read label names from a description next to the data, if there is one."""
    try:
        return read_names(path, label) if path.is_file() else {}
    except DataError:
        return {}


def _delimited(source: ImportSource, options: ImportOptions, notes: ImportNotes) -> Table:
    return delimited_table(source, options, notes)


def _json(source: ImportSource, options: ImportOptions, notes: ImportNotes) -> Records | Table:
    first = next((text for _, text in source.lines() if text.strip()), "") if source.suffix != ".json" else ""
    if first.rstrip().endswith(("}", "]")):  # a row a line, whatever the size of the file
        return json_lines_table(source)
    tree = json_tree(source.text(), source.path)
    return json_lines_table(source) if tree is None else tree_records(tree, source, options, notes)


def _yaml(source: ImportSource, options: ImportOptions, notes: ImportNotes) -> Records | Table:
    tree = yaml_tree(source.text(), source.path)
    if tree is None:
        raise ImportShapeError("is empty", path=source.path)
    return tree_records(tree, source, options, notes)


def _markdown(source: ImportSource, options: ImportOptions, notes: ImportNotes) -> Records | Table:
    table = markdown_table(source)
    return markdown_records(source, notes) if table is None else table


def _fasttext(source: ImportSource, options: ImportOptions, notes: ImportNotes) -> Table:
    records, labels = fasttext_records(source, notes)
    notes.guess(source.path, "labels in fastText's way, __label__NAME")

    def rows(skip: Skip) -> Rows:
        for record, names in zip(records, labels, strict=True):
            yield record.line, {"text": record.text, "label": names}

    return Table(("text", "label"), rows, is_sure=True)


def _parquet(source: ImportSource, options: ImportOptions, notes: ImportNotes) -> Table:
    schema = parquet_schema(source)
    described = (schema.metadata or {}).get(b"huggingface", b"null")
    tree = json_tree(described.decode("utf-8", "replace"), source.path) if described.strip() else None
    names = names_in_features(None if tree is None else tree.value())

    def refuse(message: str, line: int | None) -> None:
        raise DataError(message, path=source.path, line=line)

    def rows(skip: Skip, read_columns: tuple[str, ...] = tuple(dict.fromkeys(schema.names))) -> Rows:
        return parquet_rows(source.path, refuse, required=read_columns)

    table = Table(schema.names, rows, names)
    # The columns are chosen on names and a first batch of all; what is read to the end is these two alone.
    chosen = chosen_columns(table, options, notes, source)
    chosen_names = tuple(dict.fromkeys(column for column in (chosen.text, chosen.label) if column is not None))
    return Table(chosen_names, lambda skip: rows(skip, chosen_names), names)


def parquet_schema(source: ImportSource) -> Any:
    """Return the Arrow schema of a Parquet file.

    Raises:
        DataError: it cannot be read.
        MissingExtraError: the extra is not installed.
    """
    if source.is_packed:
        raise DataError("is a packed Parquet file; unpack it", path=source.path)
    purpose = "reading a Parquet file"
    parquet = require("pyarrow.parquet", what=purpose, extra="parquet")
    arrow = require("pyarrow", what=purpose, extra="parquet")
    try:
        return parquet.read_schema(source.path)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"cannot be read as a Parquet file: {shortened(str(error), 200)}", path=source.path) from error


def _by_content(source: ImportSource, options: ImportOptions, notes: ImportNotes) -> Records | Table:
    """Read text whose file name does not show the format."""
    if source.head.startswith(b"PAR1"):
        return _parquet(source, options, notes)
    sample = [text for _, text in islice(source.lines(), 200)]
    non_blank = [text for text in sample if text.strip()]
    if not non_blank:
        raise ImportShapeError("is empty", path=source.path)
    if is_fasttext(non_blank):
        return _fasttext(source, options, notes)
    if non_blank[0].lstrip()[:1] in ("{", "[") and non_blank[0].rstrip()[-1:] in ("{", "[", "}", "]", ","):
        return _json(source, options, notes)
    if is_markdown(non_blank):
        notes.guess(source.path, "read as a list")
        return _markdown(source, options, notes)
    if _is_table(source, non_blank, options, notes):
        return delimited_table(source, options, notes)
    if source.suffix not in _TEXT_SUFFIXES:
        message = (
            f'the ending "{source.suffix}" names no format that is read; name it .csv, .tsv, .jsonl, .json or .txt'
        )
        raise ImportShapeError(message, path=source.path)
    return line_records(source)


def _is_table(source: ImportSource, non_blank: list[str], options: ImportOptions, notes: ImportNotes) -> bool:
    """Return True if text is a table.

    It is where columns were asked for or have known names, or where every line has as many tabs.
    """
    if options.text is not None or options.label is not None or non_blank[0].lstrip('\ufeff"').startswith("sep="):
        return True
    first = non_blank[0].strip().lstrip("\ufeff").casefold()
    for delimiter in (",", ";", "\t", "|"):
        names = [name.strip().strip('"') for name in first.split(delimiter)]
        if len(names) > 1 and any(name in (*TEXTS, *LABELS) for name in names) and len(set(names)) == len(names):
            return True
    tabs = {line.rstrip("\r\n").count("\t") for line in non_blank}
    return len(tabs) == 1 and tabs != {0}


_READERS: dict[str, Callable[[ImportSource, ImportOptions, ImportNotes], Records | Table]] = {
    ".csv": _delimited,
    ".tsv": _delimited,
    ".tab": _delimited,
    ".json": _json,
    ".jsonl": _json,
    ".ndjson": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".md": _markdown,
    ".markdown": _markdown,
    ".parquet": _parquet,
    ".pq": _parquet,
}


def folder_records(folder: Path, options: ImportOptions, notes: ImportNotes) -> Iterator[tuple[Path, ImportedRecord]]:
    """Yield the records of every file of a folder and its sub-folders.

    Where files name no labels, each file or sub-folder is a category.

    Raises:
        DataError: nothing in it can be read.
    """
    entries = _entries(folder)
    train, held_out = split_of([path.name for path in entries])
    if train:
        entries = [path for path in entries if path.name not in held_out]
        notes.guess(folder, f"reads {', '.join(train)}, and leaves {', '.join(held_out)} for tune and evaluate")
    if len(entries) == 1 and entries[0].is_dir() and train:
        yield from folder_records(entries[0], options, notes)
        return
    is_any = False
    for path in entries:
        inner = _sub_folder(path, options, notes) if path.is_dir() else _listed_file(path, options, notes, _stem(path))
        for source_path, record in inner:
            is_any = True
            yield source_path, record
    if notes.unlabelled.intersection(entries):
        notes.guess(folder, "a file without labels is a category, as the file is called")
    if not is_any:
        names = ", ".join(path.name for path in entries[:5])
        raise DataError(f"holds nothing that can be read as labelled texts ({names or 'it is empty'})", path=folder)


def _listed_file(
    path: Path, options: ImportOptions, notes: ImportNotes, default: str
) -> Iterator[tuple[Path, ImportedRecord]]:
    """Yield the records of one file of a folder; note one without any."""
    try:
        for record in file_records(path, options, notes, default):
            yield path, record
    except ImportShapeError as error:
        notes.guess(path, f"passed over: {str(error).removeprefix(f'{path}: ')}")


def _sub_folder(folder: Path, options: ImportOptions, notes: ImportNotes) -> Iterator[tuple[Path, ImportedRecord]]:
    """Yield the texts of one category's folder: its files or their lines."""
    files = _entries(folder)
    name = folder.name
    texts = [path for path in files if path.is_file() and path.suffix.lower() in _TEXT_SUFFIXES]
    unit = options.each
    if unit is None and texts:
        lines = {path: sum(1 for _ in line_records(ImportSource(path, options))) for path in texts}
        unit = "file" if len(texts) > 1 and max(lines.values()) > 1 else "line"
        if max(lines.values()) > 1:
            alternative = "--each line takes each line" if unit == "file" else "--each file takes each file"
            notes.guess(folder.parent, f"each {unit} in {name}/ and the like is a text ({alternative})")
    for path in files:
        if path.is_dir():
            notes.guess(path, f"is a folder inside of a category's, and is not read; {import_hint(path)}")
        elif path in texts and unit == "file":
            text = ImportSource(path, options).text().strip()
            if text:
                for label in LabelReader(options, notes, path).categories(name, None):
                    yield path, ImportedRecord(text, label, None)
        else:
            yield from _listed_file(path, options, notes, name)


def _stem(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def _entries(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=folder) from error
    skipped = ("readme", "license", "licence")
    return [path for path in paths if not path.name.startswith(".") and not path.name.lower().startswith(skipped)]
