from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import semroute.data.categories
from semroute.data.categories import read_categories, shipped_folder
from semroute.data.examples import CategorySet
from semroute.errors import DataError

NAMES = [
    "code",
    "creative_writing",
    "customer_support",
    "data_analysis",
    "finance",
    "humanities",
    "law",
    "mathematics",
    "medicine",
    "science",
    "small_talk",
    "translation",
]


@pytest.fixture(scope="module")
def shipped() -> CategorySet:
    return read_categories(shipped_folder())


def _module_installed_at(root: Path) -> ModuleType:
    """The module as it runs from another place, so that it looks around there."""
    path = root / "semroute" / "data" / "categories.py"
    path.parent.mkdir(parents=True)
    path.write_text(Path(semroute.data.categories.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("elsewhere", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_twelve_categories_are_there(shipped: CategorySet) -> None:
    assert [category.name for category in shipped.categories] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_category_is_complete(shipped: CategorySet, name: str) -> None:
    category = next(category for category in shipped.categories if category.name == name)
    assert len(category.examples) >= 280
    assert len(category.description) > 40
    assert category.models
    assert len({len(example) for example in category.examples}) > 50, "examples should be short and long"


def test_no_shipped_example_is_repeated_or_cut_by_a_comment(shipped: CategorySet) -> None:
    assert [str(finding) for finding in shipped.findings] == []


def test_an_installed_package_has_them_inside(tmp_path: Path) -> None:
    module = _module_installed_at(tmp_path)
    inside = tmp_path / "semroute" / "data" / "shipped"
    inside.mkdir()
    assert module.shipped_folder() == inside.resolve()


def test_a_checkout_has_them_beside_the_package(tmp_path: Path) -> None:
    module = _module_installed_at(tmp_path)
    (tmp_path / "categories").mkdir()
    (tmp_path / "pyproject.toml").touch()
    assert module.shipped_folder() == (tmp_path / "categories").resolve()


def test_another_packages_folder_of_that_name_is_not_taken(tmp_path: Path) -> None:
    module = _module_installed_at(tmp_path)
    (tmp_path / "categories").mkdir()
    with pytest.raises(DataError, match="pip install --force-reinstall semroute-router"):
        module.shipped_folder()
