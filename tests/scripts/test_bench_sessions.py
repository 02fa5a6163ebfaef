"""Conversations, vendors with a cache, and the bound of hindsight, as ``bench_sessions.py`` has them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.catalog import charge
from semroute.config import Price
from semroute.testing import RecordedRequest
from semroute.types import Usage

STRONG, SMALL = "strong", "small"
TEXTS = {True: ["thanks", "hello"], False: ["fix it", "prove it"]}
PRICES = {
    STRONG: Price(input=3.0, output=15.0, cached_input=0.3, cache_write=3.75),
    SMALL: Price(input=0.8, output=4.0, cached_input=0.08, cache_write=1.0),
}


def part(name: str) -> ModuleType:
    return __import__(f"session_bench.{name}", fromlist=["x"])


def mix(easy: float, shape: str, calls: int) -> Any:
    return part("conversations").Mix(next(iter(part("vendor").PAIRS)), 4000, easy, shape, calls)


@given(st.integers(0, 100), st.sampled_from([0.2, 0.7]), st.sampled_from(["mixed", "hard first"]), st.integers(0, 6))
def test_a_seed_makes_the_same_conversations(seed: int, easy: float, shape: Any, calls: int) -> None:
    conversations = part("conversations").conversations
    found = conversations(mix(easy, shape, calls), TEXTS, 3, (10, 40), seed)
    assert found == conversations(mix(easy, shape, calls), TEXTS, 3, (10, 40), seed)
    for one in found:
        assert 10 <= one.requests <= 46
        assert all(ask.text in TEXTS[ask.is_easy] for ask in one.asks)
        kinds = [ask.is_easy for ask in one.asks]
        assert shape == "mixed" or kinds == sorted(kinds)
    other = conversations(mix(1.0 - easy, shape, calls), TEXTS, 3, (10, 40), seed)
    assert [[ask.results for ask in one.asks] for one in other] == [[ask.results for ask in one.asks] for one in found]


def asked(vendor: Any, model: str, messages: list[dict[str, Any]], path: str) -> Any:
    body = {"model": model, "messages": messages}
    reply = vendor(RecordedRequest("POST", path, {}, body))
    assert reply.answer is not None
    return reply.answer


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_a_vendor_reads_the_longest_prefix_that_a_model_has_seen(path: str) -> None:
    module, step = part("vendor"), part("vendor").STEP
    vendor = module.Vendor({"run": [module.Plan((50,), 100), module.Plan((), 80)]})
    system = {"role": "system", "content": "run " + "word " * 2000}
    first = [system, {"role": "user", "content": [{"type": "text", "text": "one"}]}]
    cold = asked(vendor, STRONG, first, path)
    assert (cold.cached_tokens, cold.output_tokens, len(cold.calls)) == (0, 50, 1)
    mark = {"cache_control": {"type": "ephemeral"}}
    marked = [system, {"role": "user", "content": [{"type": "text", "text": "one"} | mark]}]
    more = [*marked, {"role": "tool", "content": "text " * 200}]
    warm = asked(vendor, STRONG, more, path)
    assert warm.output_tokens == 100, "the plan's answer follows its calls"
    assert warm.input_tokens > cold.input_tokens >= warm.cached_tokens > cold.input_tokens - step
    if path == "/v1/messages":
        assert warm.cached_tokens == cold.input_tokens
        assert warm.cache_write_tokens == warm.input_tokens - warm.cached_tokens
    else:
        assert (warm.cached_tokens % step, warm.cache_write_tokens) == (0, 0)
    assert asked(vendor, SMALL, more, path).cached_tokens == 0, "models have caches of their own"


def played(kinds: list[bool], models: list[str], lengths: list[int]) -> Any:
    """Return a conversation of one call an ask, as the vendor would count it."""
    module, client = part("conversations"), part("client")
    conversation = module.Conversation(0, 20_000, tuple(module.Ask("ask", easy, (), (), 100) for easy in kinds))
    found, cached, total = client.Played(conversation, "semroute"), {STRONG: 0, SMALL: 0}, 20_000
    for number, (easy, model, length) in enumerate(zip(kinds, models, lengths, strict=True)):
        total += length
        usage = (total, cached[model], total - cached[model], 100)
        usd = charge(PRICES[model], Usage(usage[0], usage[3], *usage[1:3]))
        found.calls.append(client.Call(number, easy, model, usage, usd))
        cached[model] = total
    return found


@given(st.data())
def test_no_choice_of_models_is_cheaper_than_hindsight(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.booleans(), min_size=1, max_size=12))
    models = [data.draw(st.sampled_from([STRONG, SMALL])) if easy else STRONG for easy in kinds]
    lengths = data.draw(st.lists(st.integers(100, 5000), min_size=len(kinds), max_size=len(kinds)))
    one = played(kinds, models, lengths)
    hindsight = part("figures").hindsight
    least = hindsight(one, PRICES)
    assert least <= one.usd * (1 + 1e-9)
    assert hindsight(played(kinds, [STRONG] * len(kinds), lengths), PRICES) == pytest.approx(least), "by lengths alone"
    if not any(kinds):
        assert least == pytest.approx(one.usd)


def test_the_figures_count_switches_and_what_was_too_weak() -> None:
    one = played([True, False, True], [SMALL, SMALL, STRONG], [100, 100, 100])
    strong = played([True, False, True], [STRONG] * 3, [100, 100, 100])
    found = part("figures").figures([one], [strong], 100, 0)
    assert (found.switches, found.underserved) == (1.0, 1.0)
    assert found.of_strong.value == pytest.approx(one.usd / strong.usd)
    same = part("figures").ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 200, 0)
    assert (same.value, same.low, same.high) == (0.5, 0.5, 0.5)
