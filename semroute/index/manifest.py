"""Schema, parsing and checks of an artifact's ``manifest.json``.

The manifest holds everything of an artifact that is not an array, and the hash of each of its files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from semroute.errors import ArtifactError
from semroute.index.scoring import Calibration
from semroute.storage import read_json
from semroute.text.names import is_printable

FORMAT = "semroute-index"
VERSION = 1
MANIFEST = "manifest.json"
MAX_PROBES = 16
MAX_PROBE_LENGTH = 4096
MAX_NAME_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class CategoryEntry:
    """One category of an artifact.

    ``threshold_from`` is the source of the threshold: ``file`` (the category file names it), ``out-of-scope``
    (chosen against out-of-scope examples) or ``in-scope`` (chosen from held-out examples of the categories alone).
    """

    description: str
    models: tuple[str, ...]
    examples: int
    prototypes: int
    threshold: float
    threshold_from: str


@dataclass(frozen=True, slots=True)
class FirstStageEntry:
    """First stage of an artifact: a cheap encoder for confident answers.

    Attributes:
        encoder, dimensions, head, weight, calibration, probes: as in :class:`Manifest`, of its own vectors and scores.
        prototypes: number of prototypes of each category, by name.
        bar: minimum margin score at which it answers (:func:`semroute.index.scoring.margin_score`).
        floor: lowest bar permitted when examples change: the last one that was chosen against out-of-scope queries,
            which are not stored; None where none was.
        validation: data that the bar was chosen on, and its results; for people and ``semroute inspect``.
    """

    encoder: Mapping[str, Any]
    dimensions: int
    prototypes: Mapping[str, int]
    head: str | None
    weight: float
    calibration: Calibration
    bar: float
    floor: float | None
    validation: Mapping[str, Any]
    probes: tuple[tuple[str, tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """File of the artifact: its name, with a hash prefix, and its SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Metadata of an artifact: everything that is not an array.

    Attributes:
        encoder: description of the encoder (:mod:`semroute.encoders`); its files are keys of ``files``.
        dimensions: length of the vectors.
        categories: by name, in alphabetical order, which is the order of every array's categories.
        head: kind of the head, or None.
        weight: share of the head in the score.
        calibration: from scores to confidence.
        validation: how the build chose and what it measured; for people and ``semroute inspect``.
        probes: texts with their vectors, against which a serving machine's arithmetic is checked.
        files: the files by role: ``prototypes``, ``examples``, ``vectors``, ``head``, ``background`` and the encoder's;
            roles of the first stage start with ``first_``.
        created: time of building, ISO 8601, UTC.
        built_with: the version of semroute that wrote it.
        first_stage: the first stage, or None.
        ask_bar: margin score from which a question decides in place of the text that was pasted with it
            (:func:`semroute.text.asks.question_parts`); None, as in indexes of older versions, scores every text whole.
        background: share of the background head in the score; 0, as in indexes of older versions, without one.
    """

    encoder: Mapping[str, Any]
    dimensions: int
    categories: Mapping[str, CategoryEntry]
    head: str | None
    weight: float
    calibration: Calibration
    validation: Mapping[str, Any]
    probes: tuple[tuple[str, tuple[float, ...]], ...]
    created: str
    built_with: str
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    first_stage: FirstStageEntry | None = None
    ask_bar: float | None = None
    background: float = 0.0

    def to_json(self) -> str:
        """Return the manifest as indented JSON text."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1, ensure_ascii=False)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``manifest.json`` of an artifact folder.

        Raises:
            ArtifactError: there is none, it is not one of ours, it is damaged, or of another version.
        """
        path = folder / MANIFEST
        try:
            values = read_json(path)
        except FileNotFoundError:
            raise ArtifactError(f'{folder}: no index here; build one with "semroute build-index CATEGORIES"') from None
        except NotADirectoryError:
            raise ArtifactError(f"{folder}: an index is a folder, and this is a file") from None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); build the index again") from error
        return cls._parse(values, path)

    @classmethod
    def _parse(cls, values: Any, path: Path) -> Manifest:
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ArtifactError(f"{path}: not the manifest of a semroute index")
        if values.get("version") != VERSION:
            raise ArtifactError(
                f"{path}: written in format version {values.get('version')!r}, and this semroute reads version "
                f"{VERSION}; build the index again"
            )
        try:
            return cls(
                **_stage(values),
                categories={name: _category(entry) for name, entry in sorted(values["categories"].items())},
                created=str(values["created"]),
                built_with=str(values["built_with"]),
                files={role: _file(entry) for role, entry in values["files"].items()},
                # Indexes older than the first stage lack the key.
                first_stage=_first_stage(values.get("first_stage")),
                ask_bar=None if values.get("ask_bar") is None else _finite(values["ask_bar"]),
                background=_finite(values.get("background", 0.0)),
            )
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ArtifactError(f"{path}: damaged ({type(error).__name__}: {error}); build the index again") from error


def _stage(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the keys that both stages share."""
    return {
        "encoder": dict(values["encoder"]),
        "dimensions": int(values["dimensions"]),
        "head": None if values["head"] is None else str(values["head"]),
        "weight": _finite(values["weight"]),
        "calibration": Calibration(**{key: _finite(value) for key, value in values["calibration"].items()}),
        "validation": dict(values["validation"]),
        "probes": tuple((str(text), tuple(map(_finite, vector))) for text, vector in values["probes"]),
    }


def _first_stage(values: Mapping[str, Any] | None) -> FirstStageEntry | None:
    if values is None:
        return None
    prototypes = {str(name): int(count) for name, count in sorted(values["prototypes"].items())}
    floor = None if values["floor"] is None else _finite(values["floor"])
    return FirstStageEntry(**_stage(values), prototypes=prototypes, bar=_finite(values["bar"]), floor=floor)


def _category(values: Mapping[str, Any]) -> CategoryEntry:
    return CategoryEntry(
        description=str(values["description"]),
        models=tuple(map(str, values["models"])),
        examples=int(values["examples"]),
        prototypes=int(values["prototypes"]),
        threshold=_finite(values["threshold"]),
        threshold_from=str(values["threshold_from"]),
    )


def check_manifest(manifest: Manifest, folder: Path) -> None:
    """Raise if a manifest has values that no build writes.

    An index may come from anyone, and its text would reach a terminal.

    Raises:
        ArtifactError: a name is not printable, a weight is not from 0 to 1, or probes are too many or too long.
    """
    stages: list[Manifest | FirstStageEntry] = [manifest]
    if manifest.first_stage is not None:
        stages.append(manifest.first_stage)
    names = [manifest.created, manifest.built_with, *manifest.categories]
    for category in manifest.categories.values():
        names += [category.threshold_from, *category.models]
    problem = None
    for stage in stages:
        names += [*([stage.head] if stage.head else []), *(v for v in stage.encoder.values() if isinstance(v, str))]
        if len(stage.probes) > MAX_PROBES or any(len(text) > MAX_PROBE_LENGTH for text, _ in stage.probes):
            problem = f"more than {MAX_PROBES} probes, or one of more than {MAX_PROBE_LENGTH} characters"
        if not 0 <= stage.weight <= 1:
            problem = f"the weight {stage.weight:g} is not from 0 to 1"
    if not 0 <= manifest.background <= 1:
        problem = f"the weight {manifest.background:g} of the background is not from 0 to 1"
    unprintable = next((name for name in names if not is_printable(name) or len(name) > MAX_NAME_LENGTH), None)
    if unprintable is not None:
        problem = f"{unprintable[:40]!a} is no name: printable text of up to {MAX_NAME_LENGTH} characters is needed"
    if problem is not None:
        raise ArtifactError(f"{folder / MANIFEST}: damaged ({problem}); build the index again")


def _file(values: Mapping[str, Any]) -> FileEntry:
    entry = FileEntry(str(values["name"]), str(values["sha256"]))
    # A name is one of the folder's own files: a manifest from elsewhere must not lead out of it.
    if entry.name in ("", ".", "..") or any(character in entry.name for character in "/\\\0"):
        raise ValueError(f"{entry.name!r} is not the name of a file")
    return entry


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number
