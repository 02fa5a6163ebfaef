"""Recognise the shapes of JSON and YAML files, and of plain text.

Shapes are tables, routes with utterances, lists by category, Rasa's training data, fastText, Markdown, and lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from semroute.data.examples import shortened
from semroute.data.importing.labels import label_name, names_in_features
from semroute.data.importing.records import (
    ImportedRecord,
    ImportNotes,
    ImportOptions,
    ImportShapeError,
    ImportSource,
    Records,
)
from semroute.data.importing.tables import LABELS, TEXTS, Rows, Skip, Table, object_table
from semroute.data.importing.trees import Tree, YamlTree, child
from semroute.data.rows import kind

GROUP_NAMES = ("name", "intent", "category", "label", "tag", "route", "title", "id")
GROUP_TEXTS = (
    "utterances", "examples", "patterns", "queries", "texts", "phrases", "sentences", "samples", "questions",
)  # fmt: skip
"""Keys of routes and intents: of semantic-router, LiteLLM and the many files of "intents" for chatbots."""
_TRAIN = re.compile(r"(?:train|training)(?![a-z])", re.IGNORECASE)
_HELD_OUT = re.compile(r"(?:test|testing|val|valid|validation|dev|eval|heldout)(?![a-z])", re.IGNORECASE)
# In every form that https://rasa.com/docs/rasa/nlu-training-data has: (entity:value), {"entity": ...}, [{...}, {...}].
_ENTITY = re.compile(r"\[([^\]\n]+)\](?:\([^)\n]*\)|\{[^}\n]*\}|\[\s*\{[^\]\n]*\}\s*\])")
_RASA_OTHER = ("synonym", "lookup", "regex")
_CATEGORY_KEYS = {"name", "description", "models", "threshold", "examples"}


def without_entities(text: str) -> str:
    """Strip the marks of Rasa's entities and Markdown's links.

    ``[Oslo](city)`` becomes ``Oslo``.
    """
    return _ENTITY.sub(r"\1", text)


def tree_records(tree: Tree, source: ImportSource, options: ImportOptions, notes: ImportNotes) -> Records | Table:
    """Return the records of a tree, or its table.

    Raises:
        ImportShapeError: it has none of the shapes that are known.
    """
    pairs, items = tree.pairs(), tree.items()
    if pairs is not None:
        return _from_object(tree, dict(pairs), source, options, notes)
    if items is None:
        raise ImportShapeError(
            "holds a single value; a list of rows, or an object of lists is expected", path=source.path
        )
    return _from_list(items, source, notes)


def _from_list(items: list[Tree], source: ImportSource, notes: ImportNotes) -> Records | Table:
    first = next((item for item in items if item.value() not in (None, "")), None)
    if first is None:
        raise ImportShapeError("holds an empty list", path=source.path)
    if _is_group(first):
        return _groups(items, source.path, notes)
    if first.pairs() is not None or first.items() is not None:
        return object_table(source, lambda skip: _rows(items, skip))
    return (
        ImportedRecord(text, None, item.line) for item in items if (text := _text(item, source.path, notes)) is not None
    )


def _from_object(
    tree: Tree, values: Mapping[str, Tree], source: ImportSource, options: ImportOptions, notes: ImportNotes
) -> Records | Table:
    nlu, legacy = child(tree, "nlu"), child(tree, "rasa_nlu_data")
    if nlu is not None and nlu.items() is not None:
        return _rasa(nlu.items() or [], source.path, notes)
    if legacy is not None:
        values = {"common_examples": examples} if (examples := child(legacy, "common_examples")) is not None else {}
    if len(values.keys() & _CATEGORY_KEYS) > 1 and "examples" in values and values["examples"].items() is not None:
        return _group("", tree, source.path, notes)
    if _is_columns(values):
        return object_table(source, lambda skip: _transposed(values))
    lists = {key: items for key, value in values.items() if (items := value.items()) is not None}
    groups = {key: items for key, items in lists.items() if items and _is_group(items[0])}
    if groups:
        chosen = _one_of(groups, source, options, notes)
        _note_route_settings(groups[chosen], source.path, notes)
        return _groups(groups[chosen], source.path, notes)
    rows = {key: items for key, items in lists.items() if items and items[0].value().__class__ in (dict, list)}
    if rows:
        chosen = _one_of(rows, source, options, notes)
        features = values["features"].value() if "features" in values else None
        class_names = {f"row.{column}": names for column, names in names_in_features(features).items()}
        return object_table(source, lambda skip: _rows(rows[chosen], skip), class_names=class_names)
    # A version or the name of an encoder next to the categories is no information on them.
    tables = {key: value for key, value in values.items() if value.items() is not None or value.pairs()}
    named_groups = [value for value in tables.values() if value.pairs() and child(value, *GROUP_TEXTS) is not None]
    if tables and len(lists) + len(named_groups) == len(tables):
        if len(tables) < len(values):
            notes.guess(source.path, f"passed over: {', '.join(key for key in values if key not in tables)}")
        return _by_category(tables, source.path, notes)
    if len(tables) == 1 and not lists:  # all categories under one key
        (inner,) = tables.values()
        return _from_object(inner, dict(inner.pairs() or ()), source, options, notes)
    keys = ", ".join(shortened(key, 30) for key in islice(values, 8))
    message = f"holds neither rows, nor routes, nor a list of texts by category (its keys: {keys or 'none'})"
    raise ImportShapeError(f'{message}; see "semroute import --help" for what is read', path=source.path)


def _rows(items: list[Tree], skip: Skip) -> Rows:
    for item in items:
        value = item.value()
        if isinstance(value, dict):
            yield item.line, value
        elif isinstance(value, list):
            yield item.line, {str(position): item_value for position, item_value in enumerate(value, 1)}
        else:
            skip(f"is {kind(value)} among rows", item.line)


def _is_columns(values: Mapping[str, Tree]) -> bool:
    """Return True if an object holds a table by column.

    Its values are lists, or (of pandas) objects by row number, of one length.
    """
    names = [key.casefold() for key in values]
    is_known = [any(name in (alias, f"{alias}s") for alias in TEXTS) for name in names]
    labels = [any(name in (alias, f"{alias}s") for alias in LABELS) for name in names]
    if not any(is_known) or not any(labels):
        return False
    parts = [value.items() if value.items() is not None else value.pairs() for value in values.values()]
    return all(part is not None for part in parts) and len({len(part or ()) for part in parts}) == 1


def _transposed(values: Mapping[str, Tree]) -> Rows:
    columns = {}
    for key, value in values.items():
        first_values = value.value()
        columns[key] = list(first_values.values()) if isinstance(first_values, dict) else first_values
    for number, row in enumerate(zip(*columns.values(), strict=True), 1):
        yield number, dict(zip(columns, row, strict=True))


def _one_of(tables: Mapping[str, object], source: ImportSource, options: ImportOptions, notes: ImportNotes) -> str:
    """Choose the table to read: the named, the only or the training one.

    For queries to evaluate on it is the held-out one.
    """
    if options.table is not None:
        if options.table in tables:
            return options.table
        raise ImportShapeError(f"has no table {shortened(options.table)}; it has {', '.join(tables)}", path=source.path)
    train, held_out = split_of(list(tables))
    chosen = list(tables) if len(tables) == 1 else held_out if options.outside else train
    if len(chosen) == 1:
        if len(tables) > 1:
            untaken = ", ".join(key for key in tables if key != chosen[0])
            use = "left" if options.outside else "left for tune and evaluate"
            notes.guess(source.path, f"{shortened(chosen[0])} taken, and {untaken} {use}")
        return chosen[0]
    fix = "write one of them to a file" if options.outside else "name one: --table NAME"
    raise ImportShapeError(f"holds several tables ({', '.join(tables)}); {fix}", path=source.path)


def split_of(names: list[str]) -> tuple[list[str], list[str]]:
    """Split names into training and held-out data.

    Both are empty where the names do not show it.
    """
    train = [name for name in names if _TRAIN.match(name)]
    held_out = [name for name in names if _HELD_OUT.match(name)]
    return (train, held_out) if train and held_out else ([], [])


def _is_group(item: Tree) -> bool:
    texts = child(item, *GROUP_TEXTS)
    return texts is not None and texts.items() is not None and child(item, *GROUP_NAMES) is not None


def _groups(items: list[Tree], path: Path, notes: ImportNotes) -> Records:
    for item in items:
        name = child(item, *GROUP_NAMES)
        value = None if name is None else name.value()
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            yield from _group(str(value), item, path, notes)
        else:
            notes.skip(path, "a route or an intent without a name", item.line)


def _group(name: str, item: Tree, path: Path, notes: ImportNotes) -> Records:
    name_node = child(item, "name")
    label = name or (str(name_node.value()) if name_node is not None else None)
    described = child(item, "description")
    if label is not None and described is not None and isinstance(described.value(), str):
        notes.descriptions.setdefault(label_name(label), described.value().strip())
    texts = child(item, *GROUP_TEXTS)
    for text_node in (texts.items() or []) if texts is not None else []:
        text = _text(text_node, path, notes)
        if text is not None:
            yield ImportedRecord(text, label, text_node.line)


def _note_route_settings(items: list[Tree], path: Path, notes: ImportNotes) -> None:
    for key, reason in (
        ("score_threshold", "they belong to another encoder, and the build chooses its own"),
        ("function_schemas", "semroute chooses models, and calls no functions"),
    ):
        if any(
            setting is not None and setting.value() not in (None, [], {})
            for item in items
            if (setting := child(item, key))
        ):
            notes.guess(path, f'"{key}" of the routes is not taken over: {reason}')


def _by_category(values: Mapping[str, Tree], path: Path, notes: ImportNotes) -> Records:
    for name, value in values.items():
        if value.items() is None:
            yield from _group(name, value, path, notes)
            continue
        for item in value.items() or []:
            text = _text(item, path, notes)
            if text is not None:
                yield ImportedRecord(text, name, item.line)


def _text(item: Tree, path: Path, notes: ImportNotes) -> str | None:
    value = item.value()
    if isinstance(value, dict):
        value = next((value[key] for key in TEXTS if isinstance(value.get(key), str)), value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        return value
    notes.skip(path, f"is {kind(value)} where a text is expected", item.line)
    return None


def _rasa(items: list[Tree], path: Path, notes: ImportNotes) -> Records:
    """Yield the examples of Rasa's intents.

    Format: https://rasa.com/docs/rasa/nlu-training-data. Synonyms, lookups and patterns are noted and left out.
    """
    for item in items:
        other_kind = next((key for key in _RASA_OTHER if child(item, key) is not None), None)
        intent, examples = child(item, "intent"), child(item, "examples")
        if intent is None or examples is None or not str(intent.value() or "").strip():
            description = (
                f"a {other_kind} of Rasa's, which is no category"
                if other_kind
                else "an entry without an intent and examples"
            )
            notes.skip(path, description, item.line)
            continue
        for text, line in _rasa_examples(examples, path, notes):
            yield ImportedRecord(without_entities(text), str(intent.value()), line)


def _rasa_examples(examples: Tree, path: Path, notes: ImportNotes) -> Iterator[tuple[str, int]]:
    items = examples.items()
    if items is not None:
        for item in items:
            inner = child(item, "text") or item
            yield from _rasa_lines(inner, path, notes, allow_bare=True)
    else:
        yield from _rasa_lines(examples, path, notes, allow_bare=False)


def _rasa_lines(tree: Tree, path: Path, notes: ImportNotes, *, allow_bare: bool) -> Iterator[tuple[str, int]]:
    """Yield the items of a block; with ``allow_bare`` also undashed lines."""
    value = tree.value()
    if not isinstance(value, str):
        notes.skip(path, f"is {kind(value)} where examples are expected", tree.line)
        return
    is_block = isinstance(tree, YamlTree) and tree.is_block
    for number, line in enumerate(value.split("\n"), tree.line + int(is_block)):
        text = line.strip()
        if text.startswith("- ") or text == "-":
            yield text[1:].strip(), number
        elif text and allow_bare:
            yield text, number
        elif text:
            notes.skip(path, "a comment or another line without a dash among Rasa's examples", number)


# Plain text: fastText, Markdown, and an example a line.

_PREFIX = "__label__"
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_ITEM = re.compile(r"(\s*)(?:[-*+\u2022]|\d{1,6}[.)])\s+(?:\[[ xX]\]\s+)?(.*)")
_BOLD = re.compile(r"\*\*(.+?):?\*\*:?|([^.!?]{1,80}):")
_RASA_HEADING = re.compile(r"(intent|synonym|lookup|regex)\s*:\s*(.*)")
_RULE = re.compile(r"[|:\- ]+")
_CELL = re.compile(r"(?<!\\)\|")
_WRAPPED = re.compile(r'(["`\u201c\u201e\u00ab])(.+)(["`\u201d\u201c\u00bb])')


def is_fasttext(lines: Sequence[str]) -> bool:
    """Return True if most lines have a label in fastText's format."""
    non_blank = [line for line in lines if line.strip()]
    return bool(non_blank) and sum(_PREFIX in line for line in non_blank) * 2 > len(non_blank)


def fasttext_records(source: ImportSource, notes: ImportNotes) -> tuple[list[ImportedRecord], list[list[str]]]:
    """Read texts and their labels, from the start or the end of each line.

    (https://fasttext.cc/docs/en/supervised-tutorial.html)
    """
    records, labels = [], []
    for number, line in source.lines():
        words = line.split()
        if not words:
            continue
        first, last = 0, len(words)
        while first < last and words[first].startswith(_PREFIX):
            first += 1
        while last > first and words[last - 1].startswith(_PREFIX):
            last -= 1
        labels_found = [word.removeprefix(_PREFIX).rstrip(",") for word in (*words[:first], *words[last:])]
        if not labels_found:
            notes.skip(source.path, "a line without __label__", number)
            continue
        records.append(ImportedRecord(" ".join(words[first:last]), None, number))
        labels.append(labels_found)
    return records, labels


def is_markdown(lines: Sequence[str]) -> bool:
    """Return True if text is a list throughout, or has items under headings."""
    non_blank = [line for line in lines if line.strip()]
    items = sum(_ITEM.fullmatch(line.rstrip()) is not None for line in non_blank)
    headings = sum(_HEADING.fullmatch(line.strip()) is not None for line in non_blank)
    return items > 0 and (headings > 0 or items == len(non_blank))


def markdown_records(source: ImportSource, notes: ImportNotes) -> Records:
    """Yield the items of lists with their category.

    It is the heading, a line that ends in a colon, or the item above deeper ones.
    """
    lines = [(number, line.rstrip()) for number, line in source.lines()]
    label: str | None = None
    is_text = True
    has_headings = any(_HEADING.fullmatch(line.strip()) for _, line in lines)
    pending: list[tuple[int, str, int]] = []
    is_fenced = False
    for number, line in lines:
        if line.strip().startswith(("```", "~~~")):
            is_fenced = not is_fenced
        text = line.strip()
        item = None if is_fenced else _ITEM.fullmatch(line)
        heading = None if is_fenced else _HEADING.fullmatch(text)
        # Under headings a line such as "Examples:" introduces the list; without any it is the heading.
        bold = None if heading or item or has_headings or is_fenced else _BOLD.fullmatch(text)
        title = heading[2] if heading is not None else (bold[1] or bold[2]) if bold is not None else None
        if title is not None:
            yield from _section_items(pending, label if is_text else None)
            label, is_text = _label(title, notes, source, number)
        elif item is not None and is_text:
            pending.append((len(item[1].expandtabs(4)), _plain(item[2]), number))
        elif item is None and text and not text.startswith("<!--"):
            notes.skip(source.path, "a line that is no item of a list", number)
    yield from _section_items(pending, label if is_text else None)


def _section_items(items: list[tuple[int, str, int]], label: str | None) -> Records:
    """Yield the items since the last heading.

    Without a heading, an item above deeper ones names their category.
    """
    pending = list(items)
    items.clear()
    if label is None and len({depth for depth, _, _ in pending}) > 1:
        min_depth = min(depth for depth, _, _ in pending)
        name: str | None = None
        for depth, text, line in pending:
            if depth == min_depth:
                name = text.rstrip(":")
            else:
                yield ImportedRecord(text, name, line)
        return
    for _, text, line in pending:
        yield ImportedRecord(text, label, line)


def _label(heading: str, notes: ImportNotes, source: ImportSource, line: int) -> tuple[str | None, bool]:
    """Return a heading's category, and whether its items are texts.

    Items of Rasa's word lists are not texts.
    """
    rasa = _RASA_HEADING.fullmatch(heading.strip())
    if rasa is None:
        return _plain(heading), True
    if rasa[1] == "intent":
        return rasa[2].strip(), True
    notes.skip(source.path, f"a {rasa[1]} of Rasa's, which is no category", line)
    return None, False


def _plain(text: str) -> str:
    """Strip Markdown's marks and quotation from an item or heading."""
    text = without_entities(text.strip())
    for marker in ("**", "`"):
        if len(text) > 2 * len(marker) and text.startswith(marker) and text.endswith(marker):
            text = text[len(marker) : -len(marker)]
    match = _WRAPPED.fullmatch(text)
    return match[2].strip() if match is not None and match[1] not in match[2] else text


def markdown_table(source: ImportSource) -> Table | None:
    """Open a table of Markdown, if there is one.

    (https://github.github.com/gfm/#tables-extension-)
    """
    rows_found: list[tuple[int, list[str]]] = []
    for number, line in source.lines():
        text = line.strip()
        if text.startswith("|") and not _RULE.fullmatch(text):
            cells = _CELL.split(text.strip("|"))
            rows_found.append((number, [_plain(cell.replace("\\|", "|")) for cell in cells]))
    if len(rows_found) < 2 or len({len(cells) for _, cells in rows_found}) != 1 or len(rows_found[0][1]) < 2:
        return None
    (_, header), *rows = rows_found
    if len(set(header)) < len(header):
        return None
    return Table(header, lambda skip: ((number, dict(zip(header, cells, strict=True))) for number, cells in rows))


def line_records(source: ImportSource) -> Records:
    """Yield every line that is not blank."""
    return (ImportedRecord(text.strip(), None, number) for number, text in source.lines() if text.strip())
