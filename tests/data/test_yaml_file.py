from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from semroute.data import categories
from semroute.data.categories import read_category_file, read_yaml
from semroute.data.examples import CategoryFile, Example, Notes


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML may have been built without libyaml; both parsers have to give the same."""
    monkeypatch.setattr(categories, "_Loader", {"libyaml": yaml.CSafeLoader, "python": yaml.SafeLoader}[request.param])


def _read(text: str) -> tuple[CategoryFile, list[str], list[str]]:
    notes = Notes(Path("x.yaml"))
    content = read_yaml(text, notes)
    return content, [str(problem) for problem in notes.problems], [str(warning) for warning in notes.warnings]


def _problems(text: str) -> list[str]:
    return _read(text)[1]


def test_every_key_is_read() -> None:
    text = "description: Programming.\nmodels: [small, large]\nthreshold: 0.25\nexamples:\n  - fix my code\n  - 'yes'\n"
    assert _read(text) == (
        CategoryFile((Example("fix my code", 5), Example("yes", 6)), "Programming.", ("small", "large"), 0.25),
        [],
        [],
    )


def test_all_but_the_examples_may_be_left_out() -> None:
    assert _read("examples: [a]") == (CategoryFile((Example("a", 1),)), [], [])


@pytest.mark.parametrize(
    ("written", "value"), [("0.0", 0.0), ("0", 0.0), ("-1", -1.0), ("1", 1.0), ("1e-1", 0.1), (".5", 0.5)]
)
def test_a_threshold_is_any_number_from_minus_one_to_one_and_zero_is_one(written: str, value: float) -> None:
    content, problems, _ = _read(f"threshold: {written}\nexamples: [a]")
    assert problems == []
    assert content.threshold == value
    assert isinstance(content.threshold, float)


@pytest.mark.parametrize("written", ["1.5", "-2", "high", "yes", ".nan", "nan", ".inf", "'0.5'", "[0.5]", "null", ""])
def test_another_threshold_is_refused(written: str) -> None:
    problems = _problems(f"examples: [a]\nthreshold: {written}\n")
    assert problems == [
        "x.yaml:2: threshold: must be a number from -1 to 1; "
        "write it without quotes, or remove the key to leave it to the build"
    ]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("yes", 'examples: "yes" is true or false to YAML; put it in quotes'),
        ("12", 'examples: "12" is a number to YAML; put it in quotes'),
        ("1.5", 'examples: "1.5" is a number to YAML; put it in quotes'),
        ("null", 'examples: "null" is null to YAML; put it in quotes'),
        ("2024-01-31", 'examples: "2024-01-31" is a date to YAML; put it in quotes'),
        ("2024-13-99", 'examples: "2024-13-99" is a date to YAML; put it in quotes'),
        ("", "examples: an item is empty; write it, or remove it"),
        ("'  '", "examples: the example is blank; write it, or remove it"),
        ("fix this: it fails", 'examples: a mapping where text is expected; put text that holds ": " or brackets'),
        ("[a] b", "malformed YAML"),
        ("[a, b]", "examples: a list where text is expected"),
        ("!secret x", 'examples: "x" is of the type !secret to YAML'),
    ],
)
def test_an_example_that_yaml_does_not_take_for_text_is_named_with_its_line(item: str, message: str) -> None:
    problems = _problems(f"models: [m]\nexamples:\n- fine\n- {item}\n- also fine\n")
    assert len(problems) == 1
    assert problems[0].startswith(f"x.yaml:4: {message}")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("coder", "models: must be a list"),
        ("{a: b}", "models: must be a list"),
        ("", "models: must be a list"),
        ("[]", "models: names no model"),
        ("[4]", 'models: "4" is a number to YAML; put it in quotes'),
        ("['']", "models: the model is blank"),
        ("[a, b, a]", 'models: "a" is named twice'),
    ],
)
def test_models_are_a_list_of_names(written: str, message: str) -> None:
    problems = _problems(f"examples: [a]\nmodels: {written}\n")
    assert len(problems) == 1
    assert problems[0].startswith(f"x.yaml:2: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("examples: [a]\nexamples: [b]\n", 'x.yaml:2: the key "examples" is written twice'),
        ("examples: [a]\nexample: [b]\n", 'x.yaml:2: unknown key "example"; did you mean "examples"?'),
        ("examples: [a]\ntreshold: 0.2\n", 'x.yaml:2: unknown key "treshold"; did you mean "threshold"?'),
        ("examples: [a]\ncolour: red\n", 'x.yaml:2: unknown key "colour"; the keys are description, models'),
        ("examples: [a]\n? [k]\n: v\n", 'x.yaml:2: unknown key "a list or mapping"'),
        ("examples: [a]\ndescription: 12\n", 'x.yaml:2: description: "12" is a number to YAML'),
        ("examples: [a]\ndescription: [a]\n", "x.yaml:2: description: a list where text is expected"),
        ("examples: just one\n", "x.yaml:1: examples: must be a list"),
        ("- a\n- b\n", "x.yaml:1: must be a mapping with the keys description, models, threshold, examples"),
        ("just text", "x.yaml:1: must be a mapping"),
        ("# nothing\n", "x.yaml: is empty"),
        ("", "x.yaml: is empty"),
        ("examples: [a]\n---\nexamples: [b]\n", "x.yaml:2: malformed YAML"),
        ("examples:\n- *nowhere\n", "x.yaml:2: malformed YAML"),
        ("examples:\n- a\n- @handle\n", "x.yaml:3: malformed YAML"),
        ("examples:\n- a\n- b\x07\n", "x.yaml:3: malformed YAML: the character U+0007 is not allowed"),
        ("[" * 20_000, "x.yaml"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(text: str, message: str) -> None:
    problems = _problems(text)
    assert len(problems) == 1
    assert problems[0].startswith(message)


def test_half_a_surrogate_pair_in_an_escape_is_refused() -> None:
    (problem,) = _problems('examples:\n- "cut \\ud83d"\n')
    assert problem.startswith("x.yaml:2: ")


def test_every_problem_of_a_file_is_found_at_once() -> None:
    problems = _problems("modles: [a]\nthreshold: 3\nexamples:\n- ok\n- 12\n- yes\n")
    assert sorted(problem.split(":")[1] for problem in problems) == ["1", "2", "5", "6"]


def test_text_lost_to_a_comment_is_a_warning() -> None:
    content, problems, warnings = _read(
        "models:\n- m # cheap\nexamples:\n- \U0001f600 what is c# #include\n- 'a' # b\n"
    )
    assert problems == []
    assert [example.text for example in content.examples] == ["\U0001f600 what is c#", "a"]
    (warning,) = warnings
    assert warning.startswith('x.yaml:4: examples: YAML takes "#include" for a comment')


def test_lines_are_those_of_an_editor_where_yaml_counts_others() -> None:
    assert _problems("description: 'a\u2028 b\x85 c'\r\nexamples:\r\n- ok # no\r\n- 12\r\n") == [
        'x.yaml:4: examples: "12" is a number to YAML; put it in quotes'
    ]


@pytest.mark.slow
@example(["yes", "12", "null", "a: b", "# x", "- y", "\u2028", "\x85", "\u00e9\U0001f600", " a\n b "], True)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff"))),
    st.booleans(),
)
def test_any_texts_written_by_pyyaml_are_read_back_without_surrounding_whitespace(
    texts: list[str], unicode: bool
) -> None:
    texts = [text for text in texts if text.strip()]
    written = yaml.safe_dump({"examples": texts}, allow_unicode=unicode)
    content, problems, _ = _read(written)
    if texts:
        assert problems == []
    assert [found.text for found in content.examples] == [text.strip() for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("examples:\n " + "[" * 30_000, "x.yaml:2: malformed YAML: nested too deeply (more than 64 levels)"),
        (
            "a: &a0 [x, x]\n" + "".join(f"{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 20)),
            "x.yaml:12: holds more than 500,000 values, aliases expanded",
        ),
        ("examples:\n- &a [x, *a]\n", "x.yaml:2: an alias is inside of its own anchor"),
        ("examples: [a]\n? " + "k" * 3_000_000 + "\n: b\n", 'x.yaml:2: unknown key "kkkk'),
    ],
)
def test_hostile_yaml_is_refused_with_its_line(text: str, message: str) -> None:
    assert _problems(text)[0].startswith(message)


def test_a_file_beyond_the_limit_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(categories, "MOST_BYTES", 1000)
    monkeypatch.setattr(categories, "MOST_BYTES", 1000)
    path = tmp_path / "x.yaml"
    path.write_text("examples:\n" + "- an example\n" * 1000)
    notes = Notes(path)
    read_category_file(path, notes)
    assert "is larger than" in str(notes.problems[0])
