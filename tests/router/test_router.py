from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import semroute
from semroute.config import CategoryOverride, Config, Deployment
from semroute.errors import ArtifactError, ConfigError, NoDeploymentError, QueryError
from semroute.index import open_artifact
from semroute.index.manifest import MANIFEST
from semroute.learn.artifact import with_thresholds
from semroute.router import Router
from semroute.router.load import ENVIRONMENT, Reloader
from semroute.testing import FakeProvider
from semroute.text.normalise import is_blank
from semroute.types import Decision

QUERIES = [
    "how do I boil an egg",
    "my python loop never ends",
    "can my landlord evict me",
    "zxqv",
    "hi",
    "भाषा",
    "x\0y",
]


@pytest.fixture(scope="module")
def router(routing_index: Path) -> Router:
    return Router.load(routing_index, config=Config())


@pytest.fixture
def folder(routing_index: Path, tmp_path: Path) -> Path:
    return shutil.copytree(routing_index, tmp_path / "index")


@pytest.mark.parametrize(
    ("query", "category", "candidates"),
    [
        ("how long should I boil potatoes", "cooking", ("small",)),
        ("why does my python for loop never stop", "code", ("coder", "large")),
        ("is my landlord allowed to keep my deposit", "law", ("large",)),
    ],
)
def test_a_query_goes_to_its_category_and_models(
    router: Router, query: str, category: str, candidates: tuple[str, ...]
) -> None:
    decision = router.route(query)
    assert (decision.category, decision.candidates, decision.model) == (category, candidates, candidates[0])
    assert not decision.is_fallback
    assert decision.score == decision.categories[0].score >= decision.threshold == 0.2
    assert decision.strategy == "semantic"
    assert decision.elapsed_ms == pytest.approx(sum(decision.steps_ms.values()))


@pytest.mark.slow
def test_what_fits_nothing_goes_to_the_fallback(routing_index: Path) -> None:
    config = Config(categories={name: CategoryOverride(threshold=1.0) for name in ("code", "cooking", "law")})
    decision = Router.load(routing_index, config=config).route("how long should I boil potatoes")
    assert (decision.category, decision.is_fallback, decision.model) == (None, True, "large")
    assert decision.categories[0].category == "cooking"
    assert "below its threshold" in decision.reason


def test_a_decision_survives_json(router: Router) -> None:
    for decision in router.route_many(QUERIES):
        values = decision.to_dict()
        assert json.loads(json.dumps(values)) == values
        assert {"query", "category", "model", "score", "confidence", "threshold", "is_fallback", "categories"} < {
            *values
        }
        assert [entry["category"] for entry in values["categories"]] == [c.category for c in decision.categories]  # type: ignore[attr-defined]


@pytest.mark.slow
def test_many_are_routed_as_one_by_one(routing_index: Path) -> None:
    many = Router.load(routing_index, config=Config()).route_many(QUERIES)
    alone = [Router.load(routing_index, config=Config()).route(query) for query in QUERIES]
    assert [decision.category for decision in many] == [decision.category for decision in alone]
    assert [decision.query for decision in many] == QUERIES
    for a, b in zip(many, alone, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-4)
        assert a.confidence == pytest.approx(b.confidence, abs=1e-3)


def test_no_queries_give_no_decisions(router: Router) -> None:
    assert router.route_many([]) == []


def test_of_many_the_one_that_cannot_be_routed_is_named(router: Router) -> None:
    with pytest.raises(QueryError, match=r"^queries\[1\]: the query is empty"):
        router.route_many(["hello", " ", "hello"])


def test_one_string_is_not_many_queries(router: Router) -> None:
    with pytest.raises(QueryError, match="not one string"):
        router.route_many("hello")


def test_messages_are_routed_by_the_last_user_turn(router: Router) -> None:
    messages = [
        {"role": "user", "content": "can my landlord keep the deposit"},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "and how do I cook rice for six people?"},
    ]
    assert router.route(messages).category == "cooking"


@pytest.mark.slow
@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=300))
@example("\ud83d")
@example("\udc00\ud800")
@example("\0")
@example("a\0b")
@example("\u200b")
@example("\U0010ffff" * 300)
@settings(deadline=None, max_examples=60)
def test_any_text_is_decided_or_refused(router: Router, text: str) -> None:
    try:
        decision = router.route(text)
    except QueryError:
        assert is_blank(text)
        return
    assert isinstance(decision, Decision)
    assert -1.01 <= decision.score <= 1.01
    assert 0 < decision.confidence < 1
    json.dumps(decision.to_dict())


@pytest.mark.parametrize("query", [None, 3, b"hello", {"role": "user"}, [3], [], [{"role": "user", "content": 3}]])
def test_what_is_no_query_is_refused(router: Router, query: Any) -> None:
    with pytest.raises(QueryError):
        router.route(query)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["a", "word ", "a\ud83d", "語", "\U0001f600", "x\0"])
def test_a_megabyte_is_routed_fast(router: Router, unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    router.route("boil an egg")  # loads what is loaded once
    start = time.process_time()
    assert router.route(text).query == text
    # Bounded in processor time, whatever else the machine does: too many parts take their turn to count the work of
    # each. What is quadratic in any takes minutes.
    assert time.process_time() - start < 2.0


@pytest.mark.slow
def test_the_configuration_may_be_a_file(routing_index: Path, tmp_path: Path) -> None:
    (tmp_path / "semroute.yaml").write_text("categories: {cooking: {models: [chef], threshold: 0.0}}\n")
    decision = Router.load(routing_index, config=tmp_path / "semroute.yaml").route("boil an egg")
    assert (decision.model, decision.threshold) == ("chef", 0.0)


@pytest.mark.slow
def test_a_category_that_the_index_lacks_is_an_error_of_the_configuration(routing_index: Path) -> None:
    with pytest.raises(ConfigError, match=r"categories\.sports"):
        Router.load(routing_index, config=Config(categories={"sports": CategoryOverride(threshold=0.1)}))


def test_no_index_where_one_was_named_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="semroute build-index"):
        Router.load(tmp_path / "nothing", config=Config())


@pytest.mark.slow
def test_a_replaced_artifact_is_picked_up_while_threads_route(folder: Path) -> None:
    router = Router.load(folder, config=Config(), reload_every_s=0.01)
    stop, errors, thresholds = threading.Event(), [], set()

    def work() -> None:
        while not stop.is_set():
            try:
                thresholds.add(router.route("how long should I boil an egg").threshold)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for value in (0.3, 0.4):
            with_thresholds(open_artifact(folder), {"cooking": value}, "in-scope")
            deadline = time.monotonic() + 60
            while value not in thresholds and time.monotonic() < deadline:
                time.sleep(0.02)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert thresholds == {0.2, 0.3, 0.4}


@pytest.mark.slow
def test_a_damaged_replacement_keeps_the_old_one_serving(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    router = Router.load(folder, config=Config(), reload_every_s=0.0)
    before = router.route("boil an egg")
    new = folder / "new"
    new.write_text("{")
    with caplog.at_level(logging.WARNING, logger="semroute"):
        new.replace(folder / MANIFEST)
        deadline = time.monotonic() + 60
        while "goes on serving" not in caplog.text and time.monotonic() < deadline:
            assert router.route("boil an egg").category == before.category
            time.sleep(0.01)
    assert "the new index cannot be used, the old one goes on serving" in caplog.text
    assert router.route("boil an egg").score == before.score
    with pytest.raises(ArtifactError, match="cannot be read"):
        router.reload()
    assert router.route("boil an egg").score == before.score


@pytest.mark.slow
def test_a_replacement_while_the_first_one_opens_is_not_missed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from semroute.router.load import LoadedIndex

    opened = LoadedIndex.open

    def slow(where: Path, config: Config, *rest: Any) -> LoadedIndex:
        live = opened(where, config, *rest)
        monkeypatch.setattr(LoadedIndex, "open", opened)
        with_thresholds(open_artifact(folder), {"cooking": 0.35}, "in-scope")
        return live

    monkeypatch.setattr(LoadedIndex, "open", slow)
    router = Router.load(folder, config=Config(), reload_every_s=0.0)
    deadline = time.monotonic() + 60
    while router.route("boil an egg").threshold != 0.35 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert router.route("boil an egg").threshold == 0.35


@pytest.mark.slow
def test_without_an_interval_nothing_is_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reloader, "look", lambda *_: pytest.fail("it looked"))
    router = Router.load(folder, config=Config())
    with_thresholds(open_artifact(folder), {"cooking": 0.3}, "in-scope")
    assert router.route("boil an egg").threshold == 0.2
    router.reload()
    assert router.route("boil an egg").threshold == 0.3


def served(provider: FakeProvider, index: Path, *models: str) -> Router:
    places = tuple(Deployment(name=f"at-{model}", model=model, base_url=provider.base_url) for model in models)
    return Router.load(index, config=Config(deployments=places))


@pytest.mark.slow
def test_the_specialist_answers(provider: FakeProvider, routing_index: Path) -> None:
    completion = served(provider, routing_index, "small", "coder", "large").complete("how long do I boil an egg")
    assert (completion.text, completion.model) == ("how long do I boil an egg", "small")
    assert completion.decision is not None
    assert completion.decision.category == "cooking"
    assert provider.requests[0].body["model"] == "small"


@pytest.mark.slow
def test_a_conversation_is_sent_whole(provider: FakeProvider, routing_index: Path) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why does my loop never end"}]
    assert served(provider, routing_index, "coder").complete(messages).model == "coder"
    assert provider.requests[0].body["messages"] == messages


@pytest.mark.slow
def test_another_model_may_be_asked_for(provider: FakeProvider, routing_index: Path) -> None:
    completion = served(provider, routing_index, "small", "large").complete("boil an egg", model="large")
    assert completion.model == "large"
    assert completion.decision is not None
    assert (completion.decision.model, completion.decision.strategy) == ("large", "pinned")


@pytest.mark.slow
def test_without_a_deployment_nothing_is_called(provider: FakeProvider, routing_index: Path) -> None:
    with pytest.raises(NoDeploymentError, match='"small"'):
        served(provider, routing_index, "other").complete("boil an egg")
    assert provider.requests == []


@pytest.mark.slow
def test_an_empty_query_is_not_sent(provider: FakeProvider, routing_index: Path) -> None:
    with pytest.raises(QueryError):
        served(provider, routing_index, "small").complete(" ")
    assert provider.requests == []


@pytest.mark.slow
def test_all_of_it_works_inside_a_running_loop(provider: FakeProvider, routing_index: Path) -> None:
    router = served(provider, routing_index, "small", "coder", "large")

    async def work() -> None:
        decisions = await asyncio.gather(*(router.aroute("boil an egg") for _ in range(4)))
        assert {decision.category for decision in decisions} == {"cooking"}
        assert (await router.acomplete("boil an egg")).model == "small"
        assert router.route("boil an egg").category == "cooking"
        assert router.complete("boil an egg").model == "small"  # a synchronous call in a notebook

    asyncio.run(work())
    assert len(provider.requests) == 2


@pytest.mark.slow
def test_route_finds_its_artifact_at_every_call(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ENVIRONMENT, str(folder))
    assert semroute.route("boil an egg").model == "small"
    (tmp_path / "semroute.yaml").write_text("categories: {cooking: {models: [chef]}}\n")
    assert semroute.route("boil an egg").model == "chef"
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "nothing"))
    with pytest.raises(ArtifactError):
        semroute.route("boil an egg")
    assert semroute.route("boil an egg", index=folder).model == "chef"


SERVE_WITHOUT = """
import sys
BLOCKED = {"torch", "sentence_transformers", "transformers", "onnx", "onnxscript", "sklearn", "scipy", "model2vec",
           "pyarrow", "matplotlib"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from semroute import Router
from semroute.config import Config
decision = Router.load(sys.argv[1], config=Config()).route("how long do I boil an egg")
print(decision.category, BLOCKED & set(sys.modules))
"""


@pytest.mark.slow
@pytest.mark.torch(needed=False)
def test_serving_needs_nothing_of_what_building_needs(routing_index: Path) -> None:
    command = [sys.executable, "-c", SERVE_WITHOUT, str(routing_index)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "cooking set()\n", done.stderr
