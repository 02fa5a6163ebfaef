from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semroute.data.importing.labels import read_names
from semroute.data.importing.records import ImportOptions
from semroute.data.importing.writing import gather
from semroute.errors import DataError

NAMES = {0: "activate_my_card", 1: "age_limit", 2: "reverted_card_payment?"}
LIST = list(NAMES.values())
CARD_HEADER = """---
language: en
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': activate_my_card
          '1': age_limit
          '2': reverted_card_payment?
  splits:
  - name: train
    num_examples: 3
---
# Data
0: not this
"""
CARD_TABLE = """# Data Fields

An example of 'train' looks as follows: {"label": 11, "text": "I am still waiting on my card?"}

| label | intent (category) |
|---:|:---|
| 0 | activate_my_card |
| 1 | age_limit |
| 2 | reverted_card_payment? |
"""
FEATURE = {"names": LIST, "_type": "ClassLabel"}
FILES: dict[str, tuple[str, Any]] = {
    "a name a line": ("n.txt", "\n".join(LIST) + "\n"),
    "numbers and names": ("n.txt", "".join(f"{number} {name}\n" for number, name in NAMES.items())),
    "numbers, colons and names": ("n.txt", "".join(f"{number}: {name}\n" for number, name in NAMES.items())),
    "csv": ("n.csv", "id,name\n" + "".join(f"{number},{name}\n" for number, name in NAMES.items())),
    "a list": ("n.json", LIST),
    "numbers to names": ("n.json", {str(number): name for number, name in NAMES.items()}),
    "names to numbers": ("n.json", {name: number for number, name in NAMES.items()}),
    "a model's configuration": ("config.json", {"id2label": NAMES, "label2id": {}, "hidden_size": 3}),
    "dataset_info.json": ("dataset_info.json", {"features": {"text": {"dtype": "string"}, "label": FEATURE}}),
    "dataset_infos.json": ("dataset_infos.json", {"default": {"description": "x", "features": {"label": FEATURE}}}),
    "several columns": ("d.json", {"features": {"label": FEATURE, "domain": {"names": ["x", "y"]}}}),
    "a viewer's features": ("d.json", {"features": [{"feature_idx": 1, "name": "label", "type": FEATURE}]}),
    "yaml list": ("n.yaml", "".join(f"- {name}\n" for name in LIST)),
    "yaml mapping": ("n.yml", "".join(f"{number}: {name}\n" for number, name in NAMES.items())),
    "a card's header": ("README.md", CARD_HEADER),
    "a card's table": ("README.md", CARD_TABLE),
    "a card's list": (
        "README.md",
        "Labels:\n\n" + "".join(f"- `{number}`: {name}\n" for number, name in NAMES.items()),
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_names_are_read_from_whatever_lists_them(tmp_path: Path, kind: str) -> None:
    name, content = FILES[kind]
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert read_names(path, "label") == NAMES


def test_names_in_a_cards_prose_are_read(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("- label: a classification label, with World (0), Sports (1), Business (2), Sci/Tech (3).\n")
    assert read_names(path, None) == {0: "World", 1: "Sports", 2: "Business", 3: "Sci/Tech"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("n.json", "{", "malformed JSON"),
        ("n.json", '{"a": "b"}', "no names of labels found"),
        ("n.txt", "\n", "no names of labels found"),
        ("README.md", "# A card without labels\n", "no names of labels found"),
        ("n.yaml", "a: [", "malformed YAML"),
        ("n.txt", "same\nsame\n", "1 of the 2 labels have the name of another"),
        ("n.txt", "a\x07\nb\n", "the name of label 0: a category's name must be printable"),
        ("d.json", '{"x": {"names": ["a"]}, "y": {"names": ["b"]}}', "several columns have names of labels: x, y"),
    ],
)
def test_names_that_cannot_be_read_are_an_error(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_names(tmp_path / name, None)


@pytest.mark.parametrize("labels", [["0", "2"], [0, 2], ["0.0", "2.0"], [0.0, 2.0]])
def test_numbers_become_names_however_they_are_written(tmp_path: Path, labels: list[object]) -> None:
    path, names = tmp_path / "d.json", tmp_path / "n.txt"
    names.write_text("\n".join(LIST))
    rows = [{"text": f"t{place}", "label": label} for place, label in enumerate(labels)]
    path.write_text(json.dumps([*rows, {"text": "none", "label": -1}]))
    found = gather(path, ImportOptions(names=names))
    assert [category.name for category in found.categories] == ["activate_my_card", "reverted_card_payment?"]
    assert "the label -1, which stands for none" in found.skipped[0].message


def test_without_names_numbers_stay_and_the_way_is_said(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("text,label\na,0\nb,1\n")
    found = gather(path)
    assert [category.name for category in found.categories] == ["0", "1"]
    assert "--names FILE names them" in found.guesses[-1].message


def test_a_number_without_a_name_is_refused_with_its_line(tmp_path: Path) -> None:
    path, names = tmp_path / "d.csv", tmp_path / "n.txt"
    path.write_text("text,label\na,0\nb,7\n")
    names.write_text("x\ny\n")
    with pytest.raises(DataError, match=r"d\.csv:3: the label 7 has no name: .*n\.txt has 0 to 1"):
        gather(path, ImportOptions(names=names))


def test_parquet_brings_the_names_of_its_labels_along(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason='needs the extra "parquet"')
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs the extra "parquet"')
    table = pyarrow.table({"idx": [5, 6, 7], "text": ["a", "b", None], "label": [2, 0, 1], "extra": [[1], [2], [3]]})
    described = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}, "label": FEATURE}}}
    path = tmp_path / "train-00000-of-00001.parquet"
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(described)}), path)
    found = gather(path)
    assert {category.name: category.examples for category in found.categories} == {
        "activate_my_card": ("b",),
        "reverted_card_payment?": ("a",),
    }
    assert [finding.line for finding in found.skipped] == [3]
    assert "names of the labels from the description of the data in the file" in found.guesses[-1].message
    parquet.write_table(table, path)
    names = tmp_path / "dataset_info.json"
    names.write_text(json.dumps({"features": {"label": FEATURE}}))
    assert len(gather(path, ImportOptions(names=names)).categories) == 2
    with pytest.raises(DataError, match="there is no column"):
        gather(path, ImportOptions(text="body"))


@pytest.mark.parametrize("kind", ["dataset_info.json", "a card's header", "a card's table"])
def test_label_names_from_a_description_file_are_reported(tmp_path: Path, kind: str) -> None:
    name, content = FILES[kind]
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    path = tmp_path / "train.csv"
    path.write_text("text,label\na,0\nb,1\nc,2\n")
    found = gather(path)
    assert [category.name for category in found.categories] == LIST
    assert f"names of the labels from {name}" in found.guesses[-1].message
    path.write_text("text,label\na,0\nb,3\n")  # more labels than it names: it is about something else
    assert [category.name for category in gather(path).categories] == ["0", "3"]
