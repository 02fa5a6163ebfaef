"""Model names of requests: what they ask for, and how they are listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.conftest import MODELS, Served

from semroute.config import Config
from semroute.server.explanation import MAX_BYTES, explanation
from semroute.server.keys import create_key
from semroute.server.models import anthropic_list, listed_models, openai_list
from semroute.testing import FakeProvider, answer, fail
from semroute.types import CategoryScore, Decision, StrategyResult

SOUP: Any = [{"role": "user", "content": "recipe for carrot soup"}]
PRICES = {"small": 1.0, "coder": 5.0, "large": 10.0}
EXPLAIN = {"x-semroute-explain": "1"}


def client_of(served: Served, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0)


def priced(provider: FakeProvider) -> dict[str, Any]:
    """Return sections of three models at prices of their own, each of which may answer anything."""
    deployments = [
        {"name": f"{model}-1", "model": model, "base_url": provider.base_url, "price": {"input": usd, "output": usd}}
        for model, usd in PRICES.items()
    ]
    models = {"models": ["coder", "small", "large"]}
    return {"deployments": deployments, "categories": dict.fromkeys(("code", "cooking", "law"), models)}


def asked(served: Served, name: str, **options: Any) -> tuple[str, httpx.Headers]:
    """Return the model that is called for a name, and the answer's headers."""
    served.provider.script(answer("fine"))
    with client_of(served) as client:
        raw = client.chat.completions.with_raw_response.create(model=name, messages=SOUP, **options)
        raw.parse()
    return served.provider.requests[-1].body["model"], raw.headers


@pytest.mark.slow
def test_a_name_asks_for_a_preference_a_category_or_a_model(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    sections = priced(provider)
    sections["categories"] = {**sections["categories"], "law": {"models": ["large"]}}
    served = serve(**sections)
    for name, model, strategy, category in (
        ("auto", "coder", "semantic", "cooking"),
        ("auto/balanced", "coder", "semantic", "cooking"),
        ("auto/cheap", "small", "preference", "cooking"),
        ("claude-auto-best", "large", "preference", "cooking"),
        ("law", "large", "requested", "law"),
    ):
        found, headers = asked(served, name, user=name)  # each a conversation of its own
        assert (found, headers["x-semroute-strategy"]) == (model, strategy), name
        assert headers["x-semroute-category"] == category
    assert asked(served, "small")[0] == "small"


@pytest.mark.slow
def test_a_conversation_that_asks_for_the_best_leaves_its_cheaper_model(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    served = serve(**priced(provider))
    moves = [(name, *asked(served, name)) for name in ("auto/cheap", "auto/best", "auto/best", "auto/cheap")]
    found = [(model, headers["x-semroute-session"]) for _, model, headers in moves]
    assert found[:3] == [("small", "new"), ("large", "switches"), ("large", "stays")]
    assert found[3][0] == "small", "at this length no cache is worth the price of the best"


@pytest.mark.slow
def test_a_key_asks_for_the_names_that_it_has_and_for_no_other(
    serve: Callable[..., Served], provider: FakeProvider, tmp_path: Path
) -> None:
    served = serve(**priced(provider))
    provider.always(answer("fine"))
    _, cheap = create_key(tmp_path / "keys.json", "cheap", models=["auto/cheap"])
    _, plain = create_key(tmp_path / "keys.json", "plain", models=["auto", "law"])
    may = {cheap: ("auto/cheap", "claude-auto-cheap"), plain: ("auto", "claude-auto", "gpt-auto/balanced", "law")}
    for key, names in may.items():
        with client_of(served, key) as client:
            for name in ("auto", "claude-auto", "gpt-auto/balanced", "auto/cheap", "claude-auto-cheap", "auto/best",
                         "claude-auto-best", "law", "code", "large"):  # fmt: skip
                if name in names:
                    client.chat.completions.create(model=name, messages=SOUP)
                    continue
                with pytest.raises(openai.PermissionDeniedError, match="may not use"):
                    client.chat.completions.create(model=name, messages=SOUP)


@pytest.mark.slow
def test_the_decision_alone_takes_the_names_too(serve: Callable[..., Served], provider: FakeProvider) -> None:
    served = serve(**priced(provider))
    for name, model in (("auto/best", "large"), ("auto/cheap", "small"), (None, "coder")):
        body = {"query": "recipe for carrot soup"} | ({} if name is None else {"model": name})
        assert httpx.post(f"{served.url}/v1/route", json=body).json()["model"] == model
    assert httpx.post(f"{served.url}/v1/route", json={"query": "soup", "model": "auto/bets"}).status_code == 404
    assert not provider.requests


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
def test_the_decision_is_explained_where_the_request_asks_for_it(
    serve: Callable[..., Served], provider: FakeProvider, streaming: bool
) -> None:
    served = serve(**priced(provider))
    _, headers = asked(served, "auto/best", extra_headers=EXPLAIN, stream=streaming)
    told = json.loads(headers["x-semroute-decision"])
    assert (told["model"], told["strategy"], told["category"]) == ("large", "preference", "cooking")
    assert told["reason"].startswith("best: large costs most of coder, small, large")
    assert [one["strategy"] for one in told["opinions"]] == ["semantic", "preference"]
    assert "carrot" not in headers["x-semroute-decision"]
    assert "x-semroute-decision" not in asked(served, "auto", stream=streaming)[1]
    known = {"x-semroute-model", "x-semroute-category", "x-semroute-strategy", "x-semroute-decision-ms"}
    whole = {"x-semroute-deployment", "x-semroute-cost-usd", "x-semroute-outcome-id"}
    assert known <= headers.keys()
    assert whole.isdisjoint(headers) if streaming else whole <= headers.keys()


@pytest.mark.slow
def test_the_answer_of_a_stream_names_what_the_revised_decision_is(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    served = serve(**priced(provider), retries={"attempts": 2, "same_place": 1})
    provider.script(fail(500), answer("fine"))
    with anthropic.Anthropic(base_url=served.url, api_key="any", max_retries=0) as client:
        raw = client.messages.with_raw_response.create(
            model="claude-auto-best", max_tokens=10, messages=SOUP, extra_headers=EXPLAIN
        )
    told = json.loads(raw.headers["x-semroute-decision"])
    assert (told["model"], raw.headers["x-semroute-model"]) == ("large", "coder"), "the model that answered stood in"


words = st.text(min_size=1, max_size=600)


@given(st.lists(words, min_size=1, max_size=30), words, words, st.none() | words, st.lists(st.tuples(words, words)))
def test_an_explanation_is_short_ascii_json_without_the_query(
    candidates: list[str], reason: str, strategy: str, category: str | None, opinions: list[tuple[str, str]]
) -> None:
    query = "the query itself, which no header shows"
    decision = Decision(
        query=query, category=category, model=candidates[0], score=0.12345, threshold=None, confidence=1.0,
        is_fallback=False, categories=tuple(CategoryScore(name, 0.5, 0.25) for name in candidates),
        candidates=tuple(candidates), strategy=strategy, reason=reason, elapsed_ms=1.0, steps_ms={strategy: 1.0},
        opinions=tuple(StrategyResult(name, "passed", why) for name, why in opinions),
        cascade=tuple((name,) for name in candidates),
    )  # fmt: skip
    text = explanation(decision)
    assert len(text) <= MAX_BYTES
    assert text.isascii()
    assert text.isprintable()
    assert query not in text
    told = json.loads(text)
    assert {"model", "category", "strategy", "reason", "score", "confidence", "elapsed_ms"} <= told.keys()
    assert told.get("shortened", False) is ("steps_ms" not in told)


def config(**models: Any) -> Config:
    deployments = [{"name": model, "model": model, "base_url": "http://127.0.0.1:9"} for model in MODELS]
    return Config.model_validate({"deployments": deployments, "models": models, "groups": {"both": ["small", "large"]}})


def test_the_list_has_every_name_with_the_limits_of_its_smallest_model() -> None:
    chosen = config(small={"context": 8_000}, coder={}, large={"context": 200_000, "max_output": 64_000})
    models = listed_models(chosen, {"code": ("large",), "law": ("both",), "large": ("small",), "none": ("gone",)})
    assert [model.id for model in models] == [
        "auto", "auto/cheap", "auto/best", "claude-auto", "claude-auto-cheap", "claude-auto-best",
        "gpt-auto", "gpt-auto-cheap", "gpt-auto-best", *MODELS, "both", "code", "law", "none",
    ]  # fmt: skip
    limits = {model.id: (model.context, model.max_output) for model in models}
    assert limits["auto"] == limits["auto/best"] == limits["both"] == limits["law"] == (8_000, 64_000)
    assert limits["code"] == limits["large"] == (200_000, 64_000)
    assert limits["coder"] == limits["none"] == (None, None)
    openai_entries: Any = openai_list(models)["data"]
    anthropic_entries: Any = anthropic_list(models)["data"]
    assert openai_entries[0]["context_window"] == anthropic_entries[0]["max_input_tokens"] == 8_000
    assert openai_entries[0]["max_output_tokens"] == anthropic_entries[0]["max_tokens"] == 64_000
    assert "context_window" not in next(entry for entry in openai_entries if entry["id"] == "coder")
    named = chosen.model_copy(update={"policies": {"thrifty": Path("thrifty.yaml")}})
    assert [(model.id, model.context) for model in listed_models(named, {})][-1] == ("thrifty", 8_000)


@pytest.mark.slow
def test_what_is_listed_can_be_asked_for(serve: Callable[..., Served], provider: FakeProvider) -> None:
    served = serve(**priced(provider))
    provider.always(answer("fine"))
    with client_of(served) as client:
        for model in client.models.list():
            assert client.chat.completions.create(model=model.id, messages=SOUP).choices[0].message.content == "fine"
