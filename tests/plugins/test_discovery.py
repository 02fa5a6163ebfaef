"""Plugins are found by the metadata of distributions, whatever else is installed."""

from __future__ import annotations

import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from semroute.plugins import Kind, Plugins, group_of, installed

KINDS: tuple[Kind, ...] = ("strategies", "checks", "encoders", "providers", "commands")


def distribution(folder: Path, name: str, points: str, *, kind: str = "dist-info") -> None:
    """Metadata of a distribution, as an installer writes them."""
    described = folder / f"{name}-1.0.{kind}"
    described.mkdir(parents=True)
    (described / ("METADATA" if kind == "dist-info" else "PKG-INFO")).write_text(f"Name: {name}\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(points)


@pytest.mark.parametrize("kind", ["dist-info", "egg-info"])
def test_a_distribution_is_found_as_soon_as_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "polite" not in installed("checks")
    distribution(tmp_path, "acme", "[semroute.checks]\npolite = acme:Polite\n", kind=kind)
    (plugin,) = installed("checks")["polite"]
    assert (plugin.package, plugin.version, plugin.distribution) == ("acme", "1.0", "acme 1.0")
    assert Plugins().names("checks")["polite"] == "acme 1.0"
    assert "polite" not in installed("strategies")
    assert Plugins().find("checks", "polite") is plugin
    assert "acme" not in sys.modules


def test_metadata_that_cannot_be_read_hide_no_other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    distribution(tmp_path, "damaged", "[semroute.checks]\nthis is no entry point\n")
    distribution(tmp_path, "acme", "[semroute.checks]\npolite = acme:Polite\n")
    assert [plugin.package for plugin in installed("checks")["polite"]] == ["acme"]


def test_a_path_to_an_archive_is_searched_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("acme-1.0.dist-info/METADATA", "Name: acme\nVersion: 1.0\n")
        file.writestr("acme-1.0.dist-info/entry_points.txt", "[semroute.commands]\ngreet = acme:greet\n")
    monkeypatch.syspath_prepend(str(archive))
    assert [plugin.package for plugin in installed("commands")["greet"]] == ["acme"]


@pytest.mark.slow
def test_the_quick_look_finds_what_the_standard_library_finds(installed_here: None) -> None:
    for kind in KINDS:
        known = {(entry.name, entry.value) for entry in entry_points(group=group_of(kind))}
        found = {
            (plugin.name, plugin.entry and plugin.entry.value)
            for plugins in installed(kind).values()
            for plugin in plugins
        }
        assert found == known
        assert known


@pytest.fixture
def installed_here(installed: Path, installed_broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example packages on the import path of this process."""
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.syspath_prepend(str(installed_broken))
