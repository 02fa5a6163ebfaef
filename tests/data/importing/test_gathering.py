from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from semroute.data.importing.records import ImportOptions
from semroute.data.importing.writing import gather, read_queries, read_source
from semroute.errors import DataError

BOTH = {"billing": ("my invoice is wrong", "charged twice"), "weather": ("will it rain",)}
ROWS = [(text, label) for label, texts in BOTH.items() for text in texts]


def imported(path: Path, **options: Any) -> dict[str, tuple[str, ...]]:
    return {category.name: category.examples for category in gather(path, ImportOptions(**options)).categories}


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        gather(path, ImportOptions(**options))
    return str(caught.value).replace(str(path), path.name)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def delimited(delimiter: str, *header: str) -> str:
    return "".join(delimiter.join(row) + "\n" for row in [header or ("text", "label"), *ROWS])


def rows_json() -> list[dict[str, str]]:
    return [{"text": text, "label": label} for text, label in ROWS]


def listed(heading: str, item: str) -> str:
    return "".join(heading.format(label) + "".join(map(item.format, texts)) for label, texts in BOTH.items())


ROUTES = {"routes": [{"name": label, "utterances": list(texts)} for label, texts in BOTH.items()]}
RASA = """version: "3.1"
nlu:
- intent: billing
  examples: |
    - my [invoice](document) is [wrong]{"entity": "state", "role": "x"}
    - [charged]{"entity": "a", "value": "b"} [twice](count:2)
    # - not this one
- synonym: credit
  examples: |
    - plastic card
- lookup: banks
  examples: |
    - Example Bank
- regex: number
  examples: |
    - \\d{8}
- intent: weather
  examples:
  - text: |
      - will it [rain][{"entity": "w"}, {"entity": "v"}]
    metadata: {sentiment: neutral}
"""
TREE = {"billing": list(BOTH["billing"]), "weather": list(BOTH["weather"])}
FORMATS: dict[str, tuple[str, str | bytes]] = {
    "comma": ("d.csv", delimited(",")),
    "semicolon": ("d.csv", delimited(";", "Text", "Category")),
    "tab": ("d.tsv", delimited("\t", "utterance", "intent")),
    "bar": ("d.csv", delimited("|", "query", "label")),
    "sep line": ("d.csv", "sep=;\r\n" + delimited(";").replace("\n", "\r\n")),
    "mark": ("d.csv", b"\xef\xbb\xbf" + delimited(",").encode()),
    "mark and sep line": ("d.csv", b"\xef\xbb\xbfsep=;\n" + delimited(";").encode()),
    "Excel's Unicode text": ("d.txt", delimited("\t").replace("\n", "\r\n").encode("utf-16")),
    "commas inside of semicolons": ("d.csv", delimited(";").replace("charged", "well, charged").replace("well, ", "")),
    "empty cells": ("d.csv", "text,label,,\n" + "".join(f"{t},{c},,\n" for t, c in ROWS) + ",,,\n\n,,,\n"),
    "an index of pandas": ("d.csv", ",text,label\n" + "".join(f"{n},{t},{c}\n" for n, (t, c) in enumerate(ROWS))),
    "txt with a header": ("d.txt", delimited(",", "query", "category")),
    "txt with tabs and no header": ("d.txt", delimited("\t").partition("\n")[2]),
    "packed": ("d.csv.gz", gzip.compress(delimited(",").encode())),
    "packed without saying so": ("d.csv", gzip.compress(delimited(",").encode())),
    "json rows": ("d.json", json.dumps(rows_json(), indent=1)),
    "json pairs": ("d.json", json.dumps([list(row) for row in ROWS])),
    "json lines": ("d.jsonl", "".join(json.dumps(row) + "\n" for row in rows_json())),
    "json lines called json": ("d.json", "".join(json.dumps(row) + "\n" for row in rows_json())),
    "json called json lines": ("d.jsonl", json.dumps(rows_json(), indent=1)),
    "json by category": ("d.json", json.dumps(TREE)),
    "json beside a version": ("d.json", json.dumps({"version": "1", **TREE})),
    "json by category under a key": ("d.json", json.dumps({"version": "1", "intents": TREE})),
    "lines of the old Macintosh": ("d.csv", delimited(";").replace("\n", "\r")),
    "fastText of the old Macintosh": ("d.txt", "".join(f"__label__{c} {t}\r" for t, c in ROWS)),
    "table of Markdown": (
        "d.md", "# Data\n\n| text | label |\n|:--|---|\n" + "".join(f"| {t} | `{c}` |\n" for t, c in ROWS)
    ),
    "a header in another language": ("d.csv", delimited(";", "Anfrage", "Thema")),
    "no header": ("d.csv", delimited(";").partition("\n")[2]),
    "json under a key": ("d.json", json.dumps({"version": 1, "data": rows_json()})),
    "json by split": ("d.json", json.dumps({"train": rows_json(), "test": [{"text": "x", "label": "y"}]})),
    "json by column": ("d.json", json.dumps({"text": [t for t, _ in ROWS], "label": [c for _, c in ROWS]})),
    "json of pandas": (
        "d.json",
        json.dumps({k: {str(n): row[k] for n, row in enumerate(rows_json())} for k in ("text", "label")}),
    ),
    "json of a viewer": ("d.json", json.dumps({"rows": [{"row_idx": 0, "row": row} for row in rows_json()]})),
    "json of intents": (
        "d.json",
        json.dumps({"intents": [{"tag": c, "patterns": TREE[c], "responses": ["ok"]} for c in TREE]}),
    ),
    "json of details": ("d.json", json.dumps({c: {"description": "x", "utterances": TREE[c]} for c in TREE})),
    "json of Rasa": (
        "d.json",
        json.dumps({"rasa_nlu_data": {"common_examples": [{"text": t, "intent": c, "entities": []} for t, c in ROWS]}}),
    ),
    "routes": ("d.json", json.dumps({"encoder_type": "openai", "encoder_name": "x", **ROUTES})),
    "routes in yaml": ("d.yaml", "encoder_name: x\nroutes:\n" + "".join(
        f"- name: {c}\n  score_threshold: 0.3\n  utterances:\n" + "".join(f"  - {t}\n" for t in texts)
        for c, texts in BOTH.items())),
    "a list of routes": ("d.json", json.dumps(ROUTES["routes"])),
    "yaml by category": ("d.yml", "".join(f"{c}:\n" + "".join(f"- {t}\n" for t in texts) for c, texts in BOTH.items())),
    "Rasa": ("nlu.yml", RASA),
    "fastText": ("d.txt", "".join(f"__label__{c} {t}\n" for t, c in ROWS) + "\n"),
    "fastText with labels at the end": ("d.ft", "".join(f"{t} __label__{c}\n" for t, c in ROWS)),
    "headings": ("d.md", "# All\n\n" + listed("## {}\n\n", "- {}\n")),
    "Rasa's old headings": (
        "d.md", listed("## intent:{}\n", "- {}\n") + "## synonym:credit\n- card\n## regex:zip\n- [0-9]{5}\n"
    ),
    "nested list": ("d.md", listed("- {}\n", "  - {}\n")),
    "bold lines": ("d.md", listed("**{}**\n\n", "1. `{}`\n")),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_categories(tmp_path: Path, kind: str) -> None:
    name, content = FORMATS[kind]
    assert imported(write(tmp_path / name, content)) == BOTH


def test_fields_in_quotes_hold_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = write(
        tmp_path / "tickets.csv",
        b"\xef\xbb\xbfTicket ID,Subject,Description,Tags,Group\r\n"
        b'1,Order,"Hello,\r\nwhere is my order?\r\nThanks, A","order,late",Support\r\n'
        b'2,"He said ""hi""","Line with ""quotes"", commas; semis",,Billing\r\n',
    )
    assert imported(path, text="description", label="Group") == {
        "Billing": ('Line with "quotes", commas; semis',),
        "Support": ("Hello,\r\nwhere is my order?\r\nThanks, A",),
    }
    assert imported(path, text="2", label="5") == {"Billing": ('He said "hi"',), "Support": ("Order",)}


def test_quotes_between_tabs_that_do_not_match_are_text(tmp_path: Path) -> None:
    path = write(tmp_path / "d.tsv", 'text\tlabel\na 5" pipe\tx\n"what\' is this\ty\nsay "hi"\tx\n')
    assert imported(path) == {"x": ('a 5" pipe', 'say "hi"'), "y": ("\"what' is this",)}
    assert "quotes are part of the text" in str(gather(path).guesses[1])
    path = write(tmp_path / "q.tsv", 'text\tlabel\n"two\nlines"\tx\n')
    assert imported(path) == {"x": ("two\nlines",)}


@pytest.mark.parametrize(
    ("header", "more", "message"),
    [
        ("Subject,Description,Group", "a,b,c", "cannot tell which column holds the texts and which the labels"),
        ("text,title,query,label", "a,b,c,d", "cannot tell which column holds the texts"),
        ("text,intent,domain", "a,b,c", "cannot tell which column holds the labels"),
        ("text,number", "a,1", "cannot tell which column holds the labels"),
        ("first,second", "a,b", "cannot tell which column holds the texts and which the labels"),
    ],
)
def test_ambiguous_columns_are_named_with_the_options(tmp_path: Path, header: str, more: str, message: str) -> None:
    said = refusal(write(tmp_path / "d.csv", f"{header}\n{more}\n"))
    assert said.startswith(f"d.csv: {message}")
    assert "--text " in said
    assert "--label " in said
    assert f'"{header.split(",", maxsplit=1)[0]}" (such as "a")' in said


def test_every_guess_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "id;Utterance;Intent\n1;hi;greet\n2;hello;greet\n3;bye;leave\n")
    assert [guess.message for guess in gather(path).guesses] == [
        "fields are separated by a semicolon",
        'texts from column "Utterance", labels from "Intent"',
    ]
    assert gather(path, ImportOptions(text="Utterance", label="Intent")).guesses[1:] == ()


def test_of_a_number_and_its_name_the_name_is_the_label(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label,label_text\na,0,joy\nb,1,fear\n")
    assert imported(path) == {"fear": ("b",), "joy": ("a",)}


def test_of_two_columns_the_one_that_repeats_holds_the_labels(tmp_path: Path) -> None:
    rows = "".join(f"question number {n},{'pay' if n % 2 else 'ship'}\n" for n in range(8))
    assert {name: len(texts) for name, texts in imported(write(tmp_path / "d.csv", "a,b\n" + rows)).items()} == {
        "pay": 4,
        "ship": 4,
    }
    gathered = gather(write(tmp_path / "none.csv", rows))
    assert [len(category.examples) for category in gathered.categories] == [4, 4]
    assert "the first line is a row and not a header" in gathered.guesses[0].message
    assert imported(write(tmp_path / "one.csv", "hi,greet\nbye,leave\n"), header=False, text="1", label="2") == {
        "greet": ("hi",),
        "leave": ("bye",),
    }


def test_rows_that_cannot_be_used_are_left_out_with_their_reason_and_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path / "d.csv",
        "text,label\nfine,x\nhello, world,x\n,x\nno label,\nstrange,oos\nstranger,None\nfine,x\nfine,y\nalone\n",
    )
    found = gather(path)
    assert (found.rows, found.examples, found.duplicates, found.shared) == (3, 2, 1, 1)
    assert [str(finding).replace(str(path), "d.csv") for finding in found.skipped] == [
        "d.csv:3: 1 row left out: 3 fields where the header has 2; put a field that holds a comma or a line break in "
        "double quotes",
        "d.csv:4: 1 row left out: the text is blank",
        "d.csv:5: 1 row left out: a row without a label",
        "d.csv:6: 2 rows left out: out of scope; such queries are for --validation, tune and evaluate (lines 6, 7)",
        "d.csv:10: 1 row left out: 1 field where the header has 2; put a field that holds a comma or a line break in "
        "double quotes",
    ]


def test_json_rows_of_other_kinds_are_left_out_with_their_lines(tmp_path: Path) -> None:
    rows = [
        '{"text": "a", "label": "x"}',
        '"text"',
        '{"text": 3, "label": "x"}',
        '{"label": "x"}',
        '{"text": "b", "label": {"a": 1}}',
        '{"text": "\\ud83d", "label": "x"}',
        '{"text": "c", "label": true}',
    ]
    found = gather(write(tmp_path / "d.json", "[\n" + ",\n".join(rows) + "\n]"))
    assert {category.name: category.examples for category in found.categories} == {"true": ("c",), "x": ("a",)}
    assert [finding.line for finding in found.skipped] == [3, 4, 5, 6, 7]
    broken = write(tmp_path / "d.jsonl", "\n".join([rows[0], "{nonsense", rows[6]]))
    assert [finding.line for finding in gather(broken).skipped] == [2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a", "label": "x"},\n{"text": }]', "d.json:2: malformed JSON at column 10"),
        ("[" * 100_000, "d.json: malformed JSON: nested too deeply"),
        ("[]", "d.json: holds an empty list"),
        ("3", "d.json: holds a single value"),
        ("", "d.json:1: malformed JSON"),
        ('{"a": 1, "b": "x"}', "d.json: holds neither rows, nor routes"),
        ('{"a": [{"text": "x"}], "b": [{"text": "y"}]}', "d.json: holds several tables (a, b); name one: --table NAME"),
    ],
)
def test_json_that_cannot_be_read_says_where_and_why(tmp_path: Path, content: str, message: str) -> None:
    assert refusal(write(tmp_path / "d.json", content)).startswith(message)


def test_a_table_of_several_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d.json", json.dumps({"a": rows_json(), "b": [{"text": "x", "label": "y"}]}))
    assert imported(path, table="a") == BOTH
    assert "has no table" in refusal(path, table="c")


def test_descriptions_come_along_and_thresholds_of_other_encoders_do_not(tmp_path: Path) -> None:
    routes = [
        {"name": "b", "utterances": ["x", 3, {"text": "y"}, None], "description": " Bills ", "score_threshold": 0.3}
    ]
    found = gather(write(tmp_path / "d.json", json.dumps({"routes": routes})))
    assert (found.categories[0].description, found.categories[0].examples) == ("Bills", ("x", "3", "y"))
    assert found.categories[0].threshold is None
    assert '"score_threshold" of the routes is not taken over' in found.guesses[0].message
    assert "is null where a text is expected" in found.skipped[0].message


@pytest.mark.parametrize(("several", "names"), [("skip", ["c"]), ("first", ["a", "c"]), ("each", ["a", "b", "c"])])
def test_rows_of_several_labels_are_treated_as_is_asked(tmp_path: Path, several: str, names: list[str]) -> None:
    fasttext = write(tmp_path / "d.txt", "__label__a __label__b one\n__label__c two\n__label__c two\n")
    lists = write(tmp_path / "d.jsonl", '{"text": "one", "labels": ["a", "b"]}\n{"text": "two", "labels": ["c"]}\n')
    for path in (fasttext, lists):
        found = gather(path, ImportOptions(several=several))  # type: ignore[arg-type]
        assert [category.name for category in found.categories] == names
        assert [finding.line for finding in found.skipped] == ([1] if several == "skip" else [])


def test_fasttext_keeps_its_text_and_names_lines_without_a_label(tmp_path: Path) -> None:
    path = write(
        tmp_path / "d.txt", "__label__a\n__label__a  what   is __label__ \nno label\n__label__b x\n__label__b\n"
    )
    found = gather(path)
    assert [category.name for category in found.categories] == ["b"] or found.examples == 2
    assert 3 in [finding.line for finding in found.skipped]


def test_labels_become_names_of_single_spaces_in_composed_form(tmp_path: Path) -> None:
    path = write(
        tmp_path / "d.csv",
        'text,label\na,"cafe\u0301\u00a0 bar"\nb,"two\nlines"\nc,R&D \nd,zero\u200bwidth\ne,"a\x07b"\n',
    )
    found = gather(path)
    assert [category.name for category in found.categories] == ["R&D", "caf\u00e9 bar", "two lines", "zerowidth"]
    assert "must be printable text" in found.skipped[0].message


def test_names_that_differ_in_case_and_columns_that_are_no_labels_are_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label\na,Pay\nb,pay\n")
    assert '"Pay" and "pay" differ in case alone' in gather(path).warnings[0].message
    path = write(tmp_path / "u.csv", "text,label\n" + "".join(f"t{n},l{n}\n" for n in range(30)))
    assert "30 categories in 30 rows; is that the column of labels?" in gather(path).warnings[0].message
    path = write(tmp_path / "o.csv", "text,label\na,x\nb,x\n")
    assert "one category alone" in gather(path).warnings[0].message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.xlsx", b"PK\x03\x04rest", "d.xlsx: is a workbook, and is not read; in the spreadsheet program save it as"),
        ("d.csv", b"PK\x03\x04rest", "d.csv: is a zip archive or a workbook, whatever its name"),
        ("d.xls", b"x", "d.xls: is a workbook"),
        ("d.zip", b"x", "d.zip: is of a format that is not read; unpack it"),
        ("d.pkl", b"x", "d.pkl: is of a format that is not read; save it as CSV"),
        ("d.csv.gz", gzip.compress(b"text,label\na,x\n" * 50, mtime=0)[:-20], "d.csv.gz: is damaged"),
        ("d.csv", b"text,label\nca\xe9,x\n", "d.csv:2: is not UTF-8 text"),
        ("d.csv", b"", "d.csv: is empty"),
        ("d.csv", "text,label\na,x\n".encode("utf-16-le"), "d.csv: holds zero bytes, and is no text in UTF-8"),
        ("d.csv", b"text,label\n", "d.csv: holds no labelled texts"),
        ("d.csv", b'text,label\n"a,x\n', "d.csv:2: malformed CSV: a quoted field that is never closed"),
        ("d.foo", b"hello\nthere\n", 'd.foo: the ending ".foo" names no format that is read'),
        ("d.yaml", b"", "d.yaml: is empty"),
        ("d.yaml", b"a: [\n", "d.yaml:2: malformed YAML"),
        ("d.parquet", b"PAR1", "d.parquet: cannot be read as a Parquet file"),
    ],
)
def test_what_cannot_be_read_says_why_and_the_way_on(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    assert refusal(write(tmp_path / name, content)).startswith(message)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv") == "none.csv: no such file or folder; check the path"
    assert "is not a regular file" in refusal(Path("/dev/null"))
    assert "holds nothing that can be read" in refusal(tmp_path)


def test_another_encoding_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text;label\ncaf\u00e9 na\u00efve;x\u00e4\n".encode("cp1252"))
    assert imported(path, encoding="cp1252") == {"x\u00e4": ("caf\u00e9 na\u00efve",)}
    assert "--encoding cp1252" in refusal(path)
    assert "is no encoding" in refusal(path, encoding="nonsense")
    assert "is no encoding" in refusal(path, encoding="base64")
    assert "is not utf-16 text" in refusal(write(tmp_path / "o.csv", b"text,label\na,x\n1"), encoding="utf-16")


@pytest.mark.slow
def test_a_packed_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semroute.data.importing.records.MIN_UNPACKED", 100_000)
    path = write(tmp_path / "d.csv.gz", gzip.compress(b"text,label\n" + b"aaaaaaaa,x\n" * 100_000, mtime=0))
    assert "unpacks to more than 100 times its size" in refusal(path)


def test_a_folder_of_folders_is_a_category_each(tmp_path: Path) -> None:
    write(tmp_path / "d" / "billing" / "a.txt", "my invoice is wrong\ncharged twice\n")
    write(tmp_path / "d" / "weather" / "a.txt", "will it rain\n")
    write(tmp_path / "d" / ".git" / "x.txt", "hidden")
    write(tmp_path / "d" / "README.md", "- not this")
    assert imported(tmp_path / "d") == BOTH


def test_files_of_several_lines_are_texts_where_a_folder_has_many_and_lines_where_it_has_one(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "d" / "billing" / f"{number}.txt", f"Hello {number},\nmy invoice\n")
        write(tmp_path / "d" / "weather" / f"{number}", f"rain {number}\n")
    assert imported(tmp_path / "d")["billing"] == tuple(f"Hello {n},\nmy invoice" for n in range(3))
    assert any("each file in billing/" in guess.message for guess in gather(tmp_path / "d").guesses)
    assert imported(tmp_path / "d", each="line")["billing"] == ("Hello 0,", "my invoice", "Hello 1,", "Hello 2,")


def test_a_file_for_each_category_in_any_format(tmp_path: Path) -> None:
    write(tmp_path / "d" / "billing.json", json.dumps(TREE["billing"]))
    write(tmp_path / "d" / "weather.md", "- will it rain\n")
    write(tmp_path / "d" / "stories.yml", "stories:\n- story: x\n  steps: []\n")
    assert imported(tmp_path / "d") == BOTH
    said = [guess.message for guess in gather(tmp_path / "d").guesses]
    assert any(message.startswith("passed over: ") for message in said)
    assert "a file without labels is a category, as the file is called" in said


def test_files_that_name_their_labels_are_joined_and_held_out_ones_left(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.csv", delimited(","))
    write(tmp_path / "d" / "test.csv", "text,label\nheld,out\n")
    assert imported(tmp_path / "d") == BOTH
    assert "reads train.csv, and leaves test.csv" in gather(tmp_path / "d").guesses[0].message
    write(tmp_path / "e" / "nlu" / "a.yml", RASA)
    assert imported(tmp_path / "e") == BOTH


def test_a_build_from_a_labelled_file_reports_every_guess(tmp_path: Path) -> None:
    found = read_source(write(tmp_path / "d.csv", delimited(";") + ";billing\n"))
    assert {category.name: category.examples for category in found.categories} == BOTH
    messages = " ".join(finding.message for finding in found.findings)
    assert "separated by a semicolon" in messages
    assert "the text is blank" in messages


@pytest.mark.parametrize(
    ("name", "content"),
    [("code.txt", "a\nb\n"), ("code.yaml", "models: [m]\nexamples: [a, b]\n"), ("code.json", '["a", "b"]')],
)
def test_a_build_from_one_file_of_a_single_category_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(DataError, match="is a file without labels, one category alone; name the folder"):
        read_source(write(tmp_path / name, content))


def test_a_single_list_belongs_to_what_the_file_is_called_and_says_so(tmp_path: Path) -> None:
    found = gather(write(tmp_path / "billing.json", json.dumps(TREE["billing"])))
    assert found.categories[0].name == "billing"
    assert found.guesses[0].message == 'no labels: everything belongs to "billing", as the file is called'


@pytest.mark.parametrize("kind", sorted(FORMATS.keys() - {"json by split"}))
def test_labelled_queries_are_read_from_every_format(tmp_path: Path, kind: str) -> None:
    name, content = FORMATS[kind]
    rows = read_queries(write(tmp_path / name, content))
    assert sorted((row.query, str(row.category)) for row in rows) == sorted(ROWS)


def test_out_of_scope_queries_are_kept_and_guesses_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text;label\na;x\nb;oos\nc;\n;x\nd;None\n")
    said: list[str] = []
    rows = read_queries(path, None, lambda finding: said.append(finding.message))
    assert [(row.query, row.category, row.written, row.line) for row in rows] == [
        ("a", "x", None, 2),
        ("b", None, "oos", 3),
        ("c", None, None, 4),
        ("d", None, "None", 6),
    ]
    assert said == [
        "fields are separated by a semicolon",
        'texts from column "text", labels from "label"',
        "1 row left out: the text is blank",
    ]
    split = write(tmp_path / "s.json", json.dumps({"train": rows_json(), "test": [{"text": "t", "label": "x"}]}))
    assert [row.query for row in read_queries(split)] == ["t"]
    numbered = write(tmp_path / "n.csv", "body,kind\na,0\nb,1\nc,-1\n")
    names = write(tmp_path / "names.txt", "x\ny\n")
    found = read_queries(numbered, ImportOptions(text="body", label="kind", names=names))
    assert [row.category for row in found] == ["x", "y", None]


def test_native_labelled_files_are_read_strictly(tmp_path: Path) -> None:
    strict = write(tmp_path / "s.csv", "query,category\na,x\nb,x,y\n")
    with pytest.raises(DataError, match=r"s\.csv:3: 3 fields where the header has 2"):
        read_queries(strict)
    for name, content in (("l.json", '["a", "b"]'), ("l.txt", "a\nb\n"), ("l.csv", "text\na\n")):
        with pytest.raises(DataError, match="has no labels"):
            read_queries(write(tmp_path / name, content))
    with pytest.raises(DataError, match="no such file"):
        read_queries(tmp_path / "none.csv")
