from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semroute.errors import ArtifactError
from semroute.index import Calibration, CategoryEntry, FirstStageEntry, Manifest
from semroute.index.manifest import MANIFEST, VERSION, FileEntry

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=8)
JSON = st.recursive(st.none() | st.booleans() | FINITE | TEXT, lambda x: st.lists(x, max_size=3), max_leaves=4)
ENTRIES = st.builds(
    CategoryEntry,
    description=TEXT,
    models=st.lists(TEXT, max_size=3).map(tuple),
    examples=st.integers(0, 10**9),
    prototypes=st.integers(1, 10**6),
    threshold=FINITE,
    threshold_from=TEXT,
)
STAGE: dict[str, Any] = {
    "encoder": st.dictionaries(TEXT, JSON, max_size=3),
    "dimensions": st.integers(1, 4096),
    "head": st.none() | TEXT,
    "weight": FINITE,
    "calibration": st.builds(Calibration, bias=FINITE, score=FINITE, margin=FINITE),
    "validation": st.dictionaries(TEXT, JSON, max_size=3),
    "probes": st.lists(st.tuples(TEXT, st.lists(FINITE, max_size=3).map(tuple)), max_size=2).map(tuple),
}
FIRST_STAGES = st.builds(
    FirstStageEntry,
    **STAGE,
    prototypes=st.dictionaries(TEXT, st.integers(1, 99), max_size=3),
    bar=FINITE,
    floor=st.none() | FINITE,
)
MANIFESTS = st.builds(
    Manifest,
    **STAGE,
    categories=st.dictionaries(TEXT, ENTRIES, max_size=3).map(lambda found: dict(sorted(found.items()))),
    created=TEXT,
    built_with=TEXT,
    files=st.dictionaries(TEXT, st.builds(FileEntry, st.from_regex(r"[a-z]+-[0-9a-f]{16}", fullmatch=True), TEXT)),
    first_stage=st.none() | FIRST_STAGES,
    ask_bar=st.none() | st.floats(0, 2),
)
MODEST = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def whole() -> dict[str, Any]:
    manifest = Manifest(
        encoder={"kind": "onnx"},
        dimensions=2,
        categories={"code": CategoryEntry("d", ("small",), 3, 1, 0.0, "in-scope")},
        head=None,
        weight=0.0,
        calibration=Calibration(0.0, 1.0, 1.0),
        validation={"seed": 0},
        probes=(("text", (1.0, 0.0)),),
        created="now",
        built_with="0",
        files={"vectors": FileEntry("vectors-0123456789abcdef.npy", "0" * 64)},
        first_stage=FirstStageEntry(
            encoder={"kind": "static"},
            dimensions=2,
            prototypes={"code": 1},
            head=None,
            weight=0.0,
            calibration=Calibration(0.0, 1.0, 1.0),
            bar=1.25,
            floor=None,
            validation={"answered": 0.5},
            probes=(("text", (0.0, 1.0)),),
        ),
    )
    values: dict[str, Any] = json.loads(manifest.to_json())
    return values


def read(folder: Path, values: object) -> Manifest:
    (folder / MANIFEST).write_text(json.dumps(values))
    return Manifest.read(folder)


@pytest.mark.slow
@given(MANIFESTS)
@MODEST
def test_a_manifest_reads_as_it_was_written(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    assert Manifest.read(tmp_path) == manifest


def test_categories_are_in_alphabetical_order_whatever_the_file_says(tmp_path: Path) -> None:
    values = whole()
    entry = values["categories"]["code"]
    values["categories"] = {"law": entry, "art": entry, "code": entry}
    assert list(read(tmp_path, values).categories) == ["art", "code", "law"]


def test_no_manifest_names_the_command_that_makes_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ArtifactError, match="semroute build-index"):
            Manifest.read(folder)


@pytest.mark.parametrize("version", [0, VERSION + 1, "1", None])
def test_another_version_is_told_apart_from_damage(tmp_path: Path, version: object) -> None:
    with pytest.raises(ArtifactError, match=f"version {version!r}.*reads version {VERSION}; build the index again"):
        read(tmp_path, {**whole(), "version": version})


@pytest.mark.parametrize("values", [{"name": "my web page", "version": 1}, [], "semroute-index", None, 3])
def test_a_foreign_manifest_is_not_ours(tmp_path: Path, values: object) -> None:
    with pytest.raises(ArtifactError, match="not the manifest of a semroute index"):
        read(tmp_path, values)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"hello", b"[" * 100_000, b'{"format": "semroute-index"'])
def test_what_is_not_json_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be read"):
        Manifest.read(tmp_path)


def test_a_truncated_manifest_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    text = json.dumps(whole())
    for end in range(0, len(text), 7):
        (tmp_path / MANIFEST).write_text(text[:end])
        with pytest.raises(ArtifactError):
            Manifest.read(tmp_path)


@pytest.mark.parametrize("key", sorted(set(whole()) - {"format", "version", "first_stage", "ask_bar", "background"}))
def test_a_missing_key_is_damage_and_named(tmp_path: Path, key: str) -> None:
    values = whole()
    del values[key]
    with pytest.raises(ArtifactError, match=f"damaged.*{key}"):
        read(tmp_path, values)


def test_a_manifest_older_than_the_first_stage_has_none(tmp_path: Path) -> None:
    values = whole()
    del values["first_stage"]
    assert read(tmp_path, values).first_stage is None


def test_a_manifest_older_than_the_bar_of_questions_has_none_and_a_bar_is_a_number(tmp_path: Path) -> None:
    values = whole()
    del values["ask_bar"]
    assert read(tmp_path, values).ask_bar is None
    assert read(tmp_path, {**values, "ask_bar": 0.5}).ask_bar == 0.5
    with pytest.raises(ArtifactError, match="damaged"):
        read(tmp_path, {**values, "ask_bar": "high"})


@pytest.mark.parametrize("key", sorted(whole()["first_stage"]))
def test_a_missing_key_of_the_first_stage_is_damage_and_named(tmp_path: Path, key: str) -> None:
    values = whole()
    del values["first_stage"][key]
    with pytest.raises(ArtifactError, match=f"damaged.*{key}"):
        read(tmp_path, values)


@pytest.mark.parametrize("key", ["bar", "floor", "weight"])
def test_a_first_stage_with_a_number_without_bounds_is_damage(tmp_path: Path, key: str) -> None:
    values = whole()
    values["first_stage"][key] = float("inf")
    with pytest.raises(ArtifactError, match="damaged"):
        read(tmp_path, values)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\\b", "..", "", "a\0b"])
def test_a_file_outside_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    values = whole()
    values["files"]["vectors"]["name"] = name
    with pytest.raises(ArtifactError, match="not the name of a file"):
        read(tmp_path, values)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
@pytest.mark.parametrize("key", ["weight", "dimensions"])
def test_a_number_without_bounds_is_damage(tmp_path: Path, key: str, number: float) -> None:
    if (key, number) == ("dimensions", 10**400):
        number = float("inf")
    with pytest.raises(ArtifactError, match="damaged"):
        read(tmp_path, {**whole(), key: number})


@pytest.mark.slow
@given(data=st.data(), value=st.none() | st.booleans() | st.integers() | TEXT | st.just([]) | st.just({}))
@MODEST
def test_any_value_in_any_place_is_read_or_refused(tmp_path: Path, data: st.DataObject, value: object) -> None:
    values = copy.deepcopy(whole())
    place: Any = values
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    try:
        found = read(tmp_path, values)
    except ArtifactError:
        return
    assert all(isinstance(entry.threshold, float) for entry in found.categories.values())
