from __future__ import annotations

import csv
import json
import os
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.data.categories import read_categories
from semroute.data.examples import Category
from semroute.errors import DataError

FIVE = "one\ntwo\nthree\nfour\nfive\n"


def _refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_categories(folder)
    return str(caught.value).replace(f"{folder}{os.sep}", "").replace(str(folder), "FOLDER")


def test_the_four_formats_give_the_same_examples(tmp_path: Path) -> None:
    texts = ["fix my code", 'say "hi", then\ngo', "12", "caf\u00e9 \U0001f600", "last"]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"examples": texts}), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"query": text, "x": 1}) + "\n" for text in texts))
    with (tmp_path / "c.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows([["id", "query"], *([str(n), text] for n, text in enumerate(texts))])
    (tmp_path / "d.txt").write_text("\n\n".join(text.replace("\n", " ") for text in texts), encoding="utf-8")
    found = {category.name: category for category in read_categories(tmp_path).categories}
    assert list(found) == ["a", "b", "c", "d"]
    assert found["a"].examples == found["b"].examples == found["c"].examples == tuple(texts)
    assert found["d"].examples == tuple(text.replace("\n", " ") for text in texts)
    assert found["d"] == Category("d", "", (), found["d"].examples, None, tmp_path / "d.txt")


def test_a_yaml_file_brings_description_models_and_threshold(tmp_path: Path) -> None:
    (tmp_path / "law.yml").write_text(
        "description: Law.\nmodels: [s, l]\nthreshold: 0.0\nexamples: [a, b, c, d, e]\n", encoding="utf-8"
    )
    (category,) = read_categories(str(tmp_path)).categories
    assert category == Category("law", "Law.", ("s", "l"), ("a", "b", "c", "d", "e"), 0.0, tmp_path / "law.yml")


def test_categories_are_sorted_by_name_and_not_by_file(tmp_path: Path) -> None:
    for name in ("b.txt", "a b.yaml", "a.txt", "a.b.CSV"):
        (tmp_path / name).write_text("query\n" + FIVE if name.endswith("CSV") else FIVE)
    (tmp_path / "a b.yaml").write_text("examples: [a, b, c, d, e]")
    assert [category.name for category in read_categories(tmp_path).categories] == ["a", "a b", "a.b", "b"]


def test_a_blank_line_is_skipped_and_numbering_stays_true(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeff\nx\n\n   \r\ny\r\nz\nu\nv\nx\n", encoding="utf-8")
    found = read_categories(tmp_path)
    assert found.categories[0].examples == ("x", "y", "z", "u", "v")
    assert [finding.line for finding in found.findings] == [9]


def test_the_same_example_in_two_categories_is_a_finding_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(FIVE + "Sort a LIST\n")
    (tmp_path / "b.jsonl").write_text(
        '{"query": "sort  a list"}\n' + "".join(f'{{"query": "q{n}"}}\n' for n in range(5))
    )
    (finding,) = read_categories(tmp_path).findings
    assert str(finding) == (
        f'{tmp_path / "a.txt"}:6: "Sort a LIST" is an example in b.jsonl:1 too; '
        "keep it in the category where it belongs"
    )


def test_few_examples_are_a_finding_once_equal_ones_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "four.txt").write_text("f1\nf2\nf3\nf4\n")
    (tmp_path / "one.txt").write_text("alone\nalone\n")
    (tmp_path / "plenty.txt").write_text(FIVE)
    assert [str(finding).removeprefix(f"{tmp_path}{os.sep}") for finding in read_categories(tmp_path).findings] == [
        "four.txt: a category with 4 examples; give it at least 5",
        'one.txt:2: "alone" is in line 1 too; it counts once',
        "one.txt: a category with a single example; give it at least 5",
    ]


def test_what_is_not_a_category_is_left_alone_and_named_where_it_looks_like_data(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(FIVE)
    for name in (".hidden.txt", "README.txt", "readme.md", "notes.md", ".gitignore"):
        (tmp_path / name).write_text("not an example")
    (tmp_path / "b.tsv").write_text("query\tx")
    (tmp_path / "more").mkdir()
    found = read_categories(tmp_path)
    assert [category.name for category in found.categories] == ["a"]
    assert [str(finding).removeprefix(f"{tmp_path}{os.sep}") for finding in found.findings] == [
        "b.tsv: is not read; a category file is one of .yaml, .yml, .txt, .jsonl, .csv",
        "more: is a folder and is not read; put category files next to it, not in it",
    ]


def test_every_problem_of_every_file_is_in_one_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("exmaples: [a]\nexamples:\n- 12\n- fine\nthreshold: 7\n")
    (tmp_path / "b.jsonl").write_text('{"query": "a"}\n{"query": \n{"text": "a"}\n')
    (tmp_path / "c.csv").write_text('query\n"open\n')
    (tmp_path / "d.txt").write_bytes(b"fine\n\xff\n")
    (tmp_path / "e.txt").write_text("\n\n")
    lines = _refusal(tmp_path).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "a.yaml:1",
        "a.yaml:3",
        "a.yaml:5",
        "b.jsonl:2",
        "b.jsonl:3",
        "c.csv:2",
        "d.txt:2",
        "e.txt",
    ]
    assert lines[-1].startswith("e.txt: a category needs examples")


def test_the_error_holds_the_place_of_the_first_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("examples:\n- a\n- 12\n")
    with pytest.raises(DataError) as caught:
        read_categories(tmp_path)
    assert (caught.value.path, caught.value.line) == (tmp_path / "a.yaml", 3)


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.txt", "a.jsonl", "a.csv"])
def test_a_category_without_examples_is_refused_in_every_format(tmp_path: Path, name: str) -> None:
    contents = {"yaml": "description: x\n", "yml": "examples:\n", "csv": "query\n"}
    (tmp_path / name).write_text(contents.get(name.split(".")[1], ""))
    assert _refusal(tmp_path).startswith(f"{name}: a category needs examples")


def test_one_category_in_two_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code.txt").write_text(FIVE)
    (tmp_path / "code.yaml").write_text("examples: [a]")
    assert _refusal(tmp_path) == (
        'code.yaml: the category "code" is also in code.txt; put both in one file, or rename one'
    )


@pytest.mark.parametrize("name", [" padded", "tab\tbed", "line\nbreak", "zero\u200bwidth"])
def test_a_name_that_does_not_print_or_has_space_around_it_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.txt").write_text(FIVE)
    assert "a category's name must be printable text without space around it" in _refusal(tmp_path)


PRINTABLE = [
    "data_analysis", "c-3", "v1.2", "node.js", "small talk", "\u6cd5\u5f8b", "\u0939\u093f\u0928", "what?", "a,b",
    "R&D", "C++", "#1", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f467",
]  # fmt: skip


@pytest.mark.parametrize("name", PRINTABLE)
def test_any_printable_name_is_allowed(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.txt").write_text(FIVE)
    assert read_categories(tmp_path).categories[0].name == name


def test_a_decomposed_file_name_equals_the_name_that_is_typed(tmp_path: Path) -> None:
    (tmp_path / "cafe\u0301.txt").write_text(FIVE)
    assert read_categories(tmp_path).categories[0].name == "caf\u00e9"


def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "none") == "FOLDER: no such folder; make it, with a file for each category"
    assert _refusal(tmp_path).startswith("FOLDER: holds no category file; add one for each category")
    (tmp_path / "a.txt").write_text(FIVE)
    assert _refusal(tmp_path / "a.txt").startswith("FOLDER: is a file; name the folder")
    assert "cannot be read" in _refusal(Path("nul\0byte"))


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone")
    assert _refusal(tmp_path).startswith("a.txt: no such file")


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6), st.booleans())
def test_any_texts_come_back_from_jsonl_and_csv_stripped_and_once(texts: list[str], bom: bool) -> None:
    expected = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
    encoding = "utf-8-sig" if bom else "utf-8"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = [text for text in texts if text.strip()]
        with (folder / "j.jsonl").open("w", encoding=encoding, newline="") as stream:
            stream.writelines(json.dumps({"query": text}, ensure_ascii=False) + "\n" for text in kept)
        with (folder / "c.csv").open("w", encoding=encoding, newline="") as stream:
            csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["query"], *([text] for text in kept)])
        if not expected:
            assert "a category needs examples" in _refusal(folder)
            return
        assert [category.examples for category in read_categories(folder).categories] == [expected, expected]


def test_the_name_in_a_file_goes_over_the_files_and_counts_for_repeats(tmp_path: Path) -> None:
    (tmp_path / "billing.yaml").write_text('name: "Billing / Refunds"\nexamples: [a, b, c, d, e]\n')
    (tmp_path / "cafe.yaml").write_text("name: cafe\u0301?\nexamples: [f, g, h, i, j]\n", encoding="utf-8")
    assert [category.name for category in read_categories(tmp_path).categories] == ["Billing / Refunds", "caf\u00e9?"]
    (tmp_path / "caf\u00e9?.txt").write_text("k\nl\nm\nn\no\n")
    assert 'the category "caf\u00e9?" is also in cafe.yaml' in _refusal(tmp_path)


@pytest.mark.parametrize("name", ['"a\\tb"', "' a'", '""', '"\\u200b"', "12", "[a]"])
def test_a_name_in_a_file_that_cannot_be_shown_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.yaml").write_text(f"examples: [a, b, c, d, e]\nname: {name}\n")
    assert _refusal(tmp_path).startswith("a.yaml:2: name: ")


def test_names_that_differ_in_case_alone_are_a_finding(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: Billing\nexamples: [a, b, c, d, e]\n")
    (tmp_path / "b.yaml").write_text("name: billing\nexamples: [f, g, h, i, j]\n")
    (finding,) = read_categories(tmp_path).findings
    assert finding.message.startswith('the category "billing" and "Billing" differ in case alone')


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "query,category\nx,billing\ny,weather\n",
            'a.csv:2: the column "category" names "billing", "weather"',
        ),
        ("a.csv", "query,category\nx,a\ny,weather\n", 'a.csv:3: the column "category" names'),
        ("a.csv", "query,intent\nx,pay\ny,rain\n", 'a.csv:2: the column "intent" names "pay", "rain"'),
        ("a.csv", "query,label\nx,0\ny,1\n", 'a.csv:2: the column "label" names "0", "1"'),
        ("a.jsonl", '{"query": "x", "category": "b"}\n', 'a.jsonl:1: the column "category" names "b"'),
        ("a.jsonl", '{"query": "x", "label": 0}\n{"query": "y", "label": 1}\n', 'a.jsonl:1: the column "label"'),
        ("a.txt", "__label__billing where is my invoice\n__label__b x\n", "a.txt:1: holds fastText's labels"),
        ("a.txt", "one\rtwo\rthree", "a.txt:1: has a carriage return inside of a line"),
        ("a.txt", "good morning\n# greetings\nhello\n", 'a.txt:2: "# greetings" looks like a comment or a heading'),
        ("a.txt", "hello\n- good morning\n", 'a.txt:2: "- good morning" is an item of a list among other lines'),
        ("a.txt", "hello\n* good morning\n", 'a.txt:2: "* good morning" is an item of a list among other lines'),
        ("a.txt", "description: x\nexamples:\n- a\n- b\n", "a.txt:1: holds YAML; name it .yaml"),
        ("a.txt", '{"query": "x"}\n{"query": "y"}\n', "a.txt:1: holds JSON; name it .jsonl"),
        ("a.txt", "query,category\nx,b\n", "a.txt:1: begins like a table with a header"),
        ("a.txt", "my invoice\tbilling\nrain?\tweather\n", "a.txt:1: every line has columns with a tab"),
        ("code.yaml.txt", "examples:\n- a\n", 'code.yaml.txt: has two endings, ".yaml.txt"; rename it'),
        ("code.CSV.txt", "query\na\n", 'code.CSV.txt: has two endings, ".csv.txt"; rename it'),
        ("a.yml", "version: '3.1'\nnlu:\n- intent: x\n", "a.yml:1: Rasa's training data is not read as a category"),
        ("a.yaml", "routes:\n- name: x\n", "a.yaml:1: a file of routes is not read as a category"),
        ("a.yaml", "billing: [a, b]\nrain: [c]\n", "a.yaml:1: a list for each of several categories"),
    ],
)
def test_what_would_be_swallowed_is_refused_with_its_place_and_the_way_on(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    refusal = _refusal(tmp_path)
    assert refusal.startswith(message)
    ways = ("semroute import ", "rename it", "name it", "remove it", "mark every line")
    assert any(way in refusal for way in ways)


@pytest.mark.parametrize("content", ["query,category\nx,a\ny, A \nz,\n", "query,label\nx,good\ny,good\n"])
def test_a_column_that_says_what_the_file_says_is_no_problem(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert "x" in read_categories(tmp_path).categories[0].examples


@pytest.mark.parametrize("mark", ["- ", "* ", "\u2022 ", "{n}. ", "{n}) "])
def test_a_text_file_that_is_a_list_throughout_is_read_without_its_marks(tmp_path: Path, mark: str) -> None:
    lines = FIVE.splitlines()
    text = "".join(mark.format(n=number) + line + "\n" for number, line in enumerate(lines, 1))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    found = read_categories(tmp_path)
    assert found.categories[0].examples == tuple(lines)
    assert "read without their marks" in found.findings[0].message


def test_a_hashtag_a_dash_inside_and_a_single_number_stay_part_of_an_example(tmp_path: Path) -> None:
    lines = ["#python how do I sort", "3. what does this mean", "well - what", "-5 + 3", "{curly}"]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    assert read_categories(tmp_path).categories[0].examples == tuple(lines)


def test_a_row_of_empty_cells_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,query\n1,one\n,\n2,two,,\n,\n")
    assert read_categories(tmp_path).categories[0].examples == ("one", "two")


@pytest.mark.parametrize(
    ("names", "what", "way"),
    [
        (["billing.json", "weather.json"], "but billing.json, weather.json;", "semroute import FOLDER --out "),
        (["intents.xlsx"], "but intents.xlsx;", 'save it as "CSV UTF-8"'),
        (["old.zip"], "but old.zip;", "unpack it"),
        (["billing/", "weather/"], "but billing/, weather/;", "semroute import FOLDER --out "),
        ([f"{n}.md" for n in range(7)], "and 2 more;", "semroute import FOLDER --out "),
    ],
)
def test_a_folder_without_category_files_lists_its_files_and_the_remedy(
    tmp_path: Path, names: list[str], what: str, way: str
) -> None:
    for name in names:
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_text("x")
    refusal = _refusal(tmp_path)
    assert refusal.startswith("FOLDER: holds no category file")
    assert what in refusal
    assert way in refusal
