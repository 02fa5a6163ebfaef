"""Write categories to YAML files, all or none."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from semroute.categories.foreign import DATA
from semroute.categories.formats import READERS, read_category_file
from semroute.categories.model import Category
from semroute.categories.notes import Notes
from semroute.categories.yaml_nodes import MOST_BYTES, MOST_NODES
from semroute.errors import DataError
from semroute.texts.names import name_key, normalize_name
from semroute.whole import sync

LONGEST_STEM = 100
"""Bytes of UTF-8: file systems take 255 with the ending, and less where they encrypt names."""
LISTED = 5
# What Windows does not allow in a name, and what leads into other folders.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True)
class Written:
    """Files of an import.

    Attributes:
        files: the file of each category, by its name.
        others: category files that the folder held before and holds still.
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

    Existing ones are replaced only with ``force``, and none before all are on disk.

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

    It is nearly the category's own, and one that is read as a category's file.
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
    if len(raw) > LONGEST_STEM:
        stem = unicodedata.normalize("NFC", raw[:LONGEST_STEM].decode("utf-8", "ignore")).rstrip(" .")
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
    if len(text) > MOST_BYTES or len(category.examples) >= MOST_NODES:
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
    found = list(names)
    return ", ".join(found[:LISTED]) + (f" and {len(found) - LISTED:,} more" if len(found) > LISTED else "")
