from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Config
from semroute.errors import ConfigError, QueryError
from semroute.router import Router
from semroute.router.experiment import LOOK_S, TrafficShare, is_by_trial, read_share, trial_fingerprint, tried_config
from semroute.testing import FakeProvider, answer
from semroute.text.normalise import hash_fraction

QUERIES = [f"how long should I boil {number} potatoes" for number in range(60)]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("strategies: [rules]\nfallback: {models: [tiny]}\n")
    return path


def router(index: Path, policy: Path, share: float, tmp_path: Path, **more: Any) -> Router:
    trial = {"policy": str(policy), "share": share, "state": str(tmp_path / "trial.json")}
    return Router.load(index, config=Config.model_validate({"trial": trial, **more}))


@pytest.mark.slow
def test_in_shadow_it_is_noted_and_changes_nothing(routing_index: Path, policy: Path, tmp_path: Path) -> None:
    alone = Router.load(routing_index, config=Config())
    watched = router(routing_index, policy, 0.0, tmp_path)
    for query in QUERIES[:5]:
        decision = watched.route(query)
        assert (decision.model, decision.category) == (alone.route(query).model, "cooking")
        assert not is_by_trial(decision)
        said = decision.opinions[-1]
        assert (said.strategy, said.kind, said.candidates) == ("trial", "passed", ("tiny",))
        assert "only watched" in said.reason
        assert decision.steps_ms["trial"] >= 0


@pytest.mark.slow
def test_a_share_of_the_queries_goes_where_it_says_and_always_the_same_ones(
    routing_index: Path, policy: Path, tmp_path: Path
) -> None:
    half, most = (router(routing_index, policy, share, tmp_path) for share in (0.5, 0.8))
    taken = [is_by_trial(decision) for decision in half.route_many(QUERIES)]
    assert 15 <= sum(taken) <= 45
    assert taken == [is_by_trial(half.route(query)) for query in QUERIES]
    more = [is_by_trial(decision) for decision in most.route_many(QUERIES)]
    assert all(later or not before for before, later in zip(taken, more, strict=True)), "a larger share only adds"
    decision = next(one for one in half.route_many(QUERIES) if is_by_trial(one))
    assert decision.model == "tiny"
    assert decision.opinions[-1].candidates == ("small",), "what the serving policy would have done is noted"


@pytest.mark.slow
def test_the_share_changes_while_it_runs_and_goes_back_at_once(
    routing_index: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = router(routing_index, policy, 0.0, tmp_path)
    assert running.route(QUERIES[0]).model == "small"
    (tmp_path / "trial.json").write_text('{"share": 1}')
    start = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: start + LOOK_S + 1)
    assert running.route(QUERIES[0]).model == "tiny"
    (tmp_path / "trial.json").write_text('{"share": 0}')
    monkeypatch.setattr(time, "monotonic", lambda: start + 2 * LOOK_S + 2)
    assert running.route(QUERIES[0]).model == "small"


def test_a_broken_file_leaves_the_share_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trial.json"
    share = TrafficShare(path, 0.3)
    assert share.now() == 0.3
    for text in ("{", "[1]", '{"share": 2}', '{"share": true}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ValueError):  # noqa: PT011 - the message is JSON's own
            read_share(path, 0.0)
        assert TrafficShare(path, 0.3).now() == 0.3
    assert "the trial keeps its share" in caplog.text


@pytest.mark.slow
@given(st.text())
def test_every_text_has_its_place(text: str) -> None:
    assert 0 <= hash_fraction(text) < 1
    assert hash_fraction(text) == hash_fraction(text)


@pytest.mark.parametrize("endings", [("in French", "in German"), ("of long ago", "of our days")])
def test_texts_that_differ_in_the_same_words_are_drawn_apart(endings: tuple[str, str]) -> None:
    places = [
        [hash_fraction(f"tell me about number {number} {end}") < 0.25 for end in endings] for number in range(4000)
    ]
    one, other = zip(*places, strict=True)
    both = sum(first and second for first, second in places) / 4000
    assert both == pytest.approx(sum(one) / 4000 * sum(other) / 4000, abs=0.02)


@pytest.mark.slow
def test_the_answers_of_its_queries_go_up_its_own_cascade(routing_index: Path, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "strategies: [rules]\nfallback: {models: [tiny]}\n"
        'cascade: {tiers: [tiny, large], accept: {format: {pattern: "yes"}}}\n'
    )
    with FakeProvider() as provider:
        places = [{"name": name, "model": name, "base_url": provider.base_url} for name in ("tiny", "large", "small")]
        running = router(routing_index, path, 1.0, tmp_path, deployments=places)
        provider.script(answer("no"), answer("yes"))
        completion = running.complete(QUERIES[0])
        assert (completion.text, completion.model, len(completion.tiers)) == ("yes", "large", 2)
        assert completion.decision is not None
        assert is_by_trial(completion.decision)


@pytest.mark.slow
def test_a_policy_that_cannot_be_used_is_refused_when_the_router_is_loaded(
    routing_index: Path, policy: Path, tmp_path: Path
) -> None:
    policy.write_text("strategies: [guess]\n")
    with pytest.raises(ConfigError, match=r"policy\.yaml:1"):
        router(routing_index, policy, 0.0, tmp_path)
    policy.write_text("categories: {nowhere: {models: [a]}}\n")
    with pytest.raises(ConfigError, match="no such category"):
        router(routing_index, policy, 0.0, tmp_path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_log_tells_how_both_do(routing_index: Path, policy: Path, here: Path) -> None:
    from semroute.evaluate.experiment_report import trial_report
    from semroute.outcomes.log import open_log

    config = Config.model_validate({"trial": {"policy": str(policy), "share": 0.5, "state": "t.json"}})
    with open_log(config.log, {}) as log:
        running = Router.load(routing_index, config=config, log=log)
        running.route_many(QUERIES)
        log.flush()
        tried = tried_config(config)
        assert tried is not None
        made = trial_report(log.outcomes(), trial_fingerprint(config, tried))
        assert trial_report(log.outcomes(), "another").others == 60
    (only,) = made.shares
    assert only.share == 0.5
    assert only.serving.queries + only.trying.queries == 60
    assert only.trying.queries > 10
    assert made.agreement.n == 60
    assert made.agreement.value == 0, "they never name the same model"
    assert json.loads(json.dumps(made.to_dict()))["shares"][0]["trying"]["judged"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("a bug: sk-secret"), KeyError("x"), QueryError("not this one")])
def test_whatever_fails_in_a_trial_the_serving_policy_serves_and_says_so(
    routing_index: Path,
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    running = router(routing_index, policy, 1.0, tmp_path)

    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(running._trial.chain, "decide", broken)  # type: ignore[union-attr]
    decision = running.route(QUERIES[0])
    assert decision.model == "small"
    said = decision.opinions[-1]
    assert (said.strategy, said.kind) == ("trial", "passed")
    assert "it failed" in said.reason
    assert "sk-secret" not in said.reason + caplog.text, "what a foreign error says may hold anything"
    assert said.draw is not None
    assert said.draw.probability == 1.0
    assert "the policy on trial failed" in caplog.text


@pytest.mark.slow
def test_a_trial_that_decides_on_too_few_queries_is_one_that_failed(
    routing_index: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = router(routing_index, policy, 1.0, tmp_path)

    def short(*_: object, **__: object) -> Any:
        return []
        yield

    monkeypatch.setattr(running._trial.chain, "decide", short)  # type: ignore[union-attr]
    decision = running.route(QUERIES[0])
    assert decision.model == "small"
    assert "it failed: ValueError" in decision.opinions[-1].reason


@pytest.mark.slow
def test_queries_on_which_the_trial_failed_are_counted_and_compared_for_neither_policy(
    routing_index: Path, policy: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semroute.evaluate.experiment_report import trial_report
    from semroute.outcomes.log import open_log

    config = Config.model_validate({"trial": {"policy": str(policy), "share": 0.5, "state": "t.json"}})
    with open_log(config.log, {}) as log:
        running = Router.load(routing_index, config=config, log=log)
        decide = running._trial.chain.decide  # type: ignore[union-attr]

        def sometimes(texts: list[str], *more: Any, **options: Any) -> Any:
            if int(texts[0].split()[5]) % 2:
                raise RuntimeError("a bug that odd numbers find")
            return (yield from decide(texts, *more, **options))

        monkeypatch.setattr(running._trial.chain, "decide", sometimes)  # type: ignore[union-attr]
        even = [hash_fraction(query) < 0.5 for query in QUERIES[::2]]
        for query in QUERIES:
            running.route(query)
        log.flush()
        tried = tried_config(config)
        assert tried is not None
        made = trial_report(log.outcomes(), trial_fingerprint(config, tried))
    (only,) = made.shares
    assert (only.trying.queries, only.serving.queries) == (sum(even), 30 - sum(even))
    assert (made.failed, made.to_dict()["failed"], made.agreement.n) == (30, 30, 30)
