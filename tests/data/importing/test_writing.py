from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.data.categories import read_categories
from semroute.data.examples import Category
from semroute.data.importing.writing import file_stem, write_categories
from semroute.errors import DataError
from semroute.text.names import name_key, name_problem, normalize_name

FIVE = ("one", "two", "three", "four", "five")
HARD = [
    "reverted_card_payment?", "R&D", "C++", "Billing / Refunds", "a:b", 'say "hi"', "what*", "<x>", "..",
    ".hidden", "end.",
    "con", "NUL.x", "COM1", "README", "readme first", "code.yaml", "notes.md", "v1.2", "x" * 900,
    "\u6cd5" * 300, "#1", "- x",
    "yes", "null", "12", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f467", "a\\b",
    "~", "|",
]  # fmt: skip


def category(name: str, *examples: str) -> Category:
    return Category(name, "", (), examples or FIVE)


def back(folder: Path) -> dict[str, tuple[str, ...]]:
    return {category.name: category.examples for category in read_categories(folder).categories}


def test_names_that_are_no_file_names_come_back_from_their_files(tmp_path: Path) -> None:
    categories = [category(name, *(f"{name} {word}" for word in FIVE)) for name in sorted(HARD)]
    written = write_categories(categories, tmp_path / "out")
    assert set(back(tmp_path / "out")) == set(HARD)
    assert len({name_key(path.name) for path in written.files.values()}) == len(HARD)
    assert all(len(path.name.encode()) < 120 for path in written.files.values())
    assert (tmp_path / "out" / "v1.2.yaml").read_text().startswith("examples:")
    assert (tmp_path / "out" / "R&D.yaml").exists()


def test_names_that_differ_in_case_alone_get_files_that_every_system_keeps_apart(tmp_path: Path) -> None:
    names = ["Pay", "pay", "PAY", "caf\u00e9", "CAF\u00c9", "stra\u00dfe", "strasse"]
    written = write_categories([category(name) for name in names], tmp_path)
    assert len({path.name.casefold() for path in written.files.values()}) == len(names)
    assert set(back(tmp_path)) == set(names)


_name = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).map(normalize_name)
_text = st.text(st.characters(exclude_categories=["Cs"])).map(str.strip).filter(bool)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.dictionaries(_name.filter(lambda name: name_problem(name) is None), st.lists(_text, min_size=1, unique=True)))
def test_any_names_and_texts_are_read_back_unchanged(found: dict[str, list[str]]) -> None:
    if not found:
        return
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        described = [Category(label, "about #1: x", (), tuple(texts)) for label, texts in found.items()]
        write_categories(described, out)
        assert back(out) == {label: tuple(texts) for label, texts in found.items()}
        assert {one.description for one in read_categories(out).categories} == {"about #1: x"}


def test_existing_files_are_kept_without_force(tmp_path: Path) -> None:
    (tmp_path / "Billing.yaml").write_text("examples: [mine]\n")
    with pytest.raises(DataError, match=r"holds Billing\.yaml already; --force replaces them"):
        write_categories([category("billing"), category("weather")], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["Billing.yaml"]
    written = write_categories([category("Billing")], tmp_path, force=True)
    assert back(tmp_path) == {"Billing": FIVE}
    assert written.others == []


def test_a_category_that_another_file_holds_is_refused_even_if_forced(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: weather\nexamples: [mine]\n")
    (tmp_path / "billing.txt").write_text("mine\n")
    for name in ("weather", "billing"):
        with pytest.raises(DataError, match=f'is a file of the category "{name}" already'):
            write_categories([category(name)], tmp_path, force=True)
    assert [path.name for path in write_categories([category("other")], tmp_path).others] == ["billing.txt", "x.yaml"]


def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    (tmp_path / "a.yaml").write_text("examples: [mine]\n")
    large = [category("a"), category("b", *(f"example number {n}" for n in range(1000)))]
    with full_disk(), pytest.raises(DataError, match="cannot be written"):
        write_categories(large, tmp_path, force=True)
    assert back(tmp_path) == {"a": ("mine",)}
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(DataError, match="is a file; name a folder"):
        write_categories([category("a")], tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "stem"), [("a/b", "a_b"), (".x", "_x"), ("CON", "_CON"), ("x.csv", "x_csv"), ("a b", "a b")]
)
def test_a_stem_is_nearly_the_name(name: str, stem: str) -> None:
    assert file_stem(name) == stem
