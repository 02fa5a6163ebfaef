"""A program extends semroute by argument, without a package of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, field_validator

from semroute.config import Config, load_config
from semroute.config.load import validate
from semroute.encoders.plugin import open_plugin_encoder
from semroute.encoders.registry import load_encoder, save_encoder
from semroute.errors import ArtifactError, ConfigError, DispatchError, EncoderError, MalformedResponseError, PluginError
from semroute.plugins import Plugins
from semroute.router import Router
from semroute.router.complete import Answering
from semroute.router.decide import chain_of
from semroute.router.experiment import trial_fingerprint
from semroute.strategies import RoutingContext, StrategySetup
from semroute.testing import FakeProvider, answer
from semroute.types import CheckResult, Completion, Delta, ModelClient, Request, StrategyResult

SEMANTIC = {"log": {"enabled": False}, "categories": {}}


class First:
    """A strategy that takes the first model of the first category, or fails as it is told."""

    needs_vectors = False

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        fails: str = ""

        @field_validator("fails")
        @classmethod
        def _is_no_shout(cls, value: str) -> str:
            if value.isupper():
                raise ValueError("must not shout")
            return value

    def __init__(self, options: Options, setup: StrategySetup) -> None:
        self.name, self._fails, self._setup = setup.name, options.fails, setup

    def decide(self, cases: Sequence[RoutingContext]) -> list[StrategyResult]:
        if self._fails == "raises":
            raise RuntimeError("the moon is in the way")
        if self._fails == "none":
            return []
        models = self._setup.models["code"]
        return [StrategyResult("anything", "decided", "it comes first", models) for _ in cases]


class Asking:
    """A strategy that asks the model ``small``."""

    name = "asking"

    def __init__(self, options: None, setup: StrategySetup) -> None: ...

    async def adecide(self, case: RoutingContext, caller: ModelClient) -> StrategyResult:
        said = await caller.complete(Request(({"role": "user", "content": case.text},)), ("small",))
        return StrategyResult(self.name, "decided", said.text, (said.text,))


@pytest.mark.slow
def test_a_strategy_is_handed_in(routing_index: Path) -> None:
    config = {**SEMANTIC, "strategies": ["mine", "semantic"]}
    router = Router.load(routing_index, config=config, strategies={"mine": First})
    decision = router.route("how do I boil an egg")
    assert (decision.strategy, decision.candidates) == ("mine", ("coder", "large"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fails", "said"),
    [("raises", "RuntimeError: the moon is in the way"), ("none", "1 results of StrategyResult were due")],
)
def test_a_strategy_that_fails_abstains(
    routing_index: Path, caplog: pytest.LogCaptureFixture, fails: str, said: str
) -> None:
    config = {**SEMANTIC, "strategies": ["mine", "semantic"], "mine": {"fails": fails}}
    router = Router.load(routing_index, config=config, strategies={"mine": First})
    decision = router.route("how do I boil an egg")
    assert (decision.strategy, decision.category) == ("semantic", "cooking")
    assert decision.opinions[0].kind == "passed"
    assert said in decision.opinions[0].reason
    assert 'the strategy "mine" that was handed in failed' in caplog.text


def deployments(url: str, format: str = "openai") -> dict[str, Any]:
    place = {"name": "here", "model": "small", "base_url": url, "format": format, "price": {"input": 1, "output": 1}}
    categories = {name: {"models": ["small"]} for name in ("code", "cooking", "law")}
    sections = {"deployments": [place], "fallback": {"models": ["small"]}, "retries": {"attempts": 1}}
    return {**SEMANTIC, **sections, "categories": categories}


@pytest.mark.slow
@pytest.mark.parametrize(("reply", "strategy"), [(answer("small"), "asking"), (None, "semantic")])
def test_a_strategy_that_asks_a_model_is_handed_in(routing_index: Path, reply: Any, strategy: str) -> None:
    from semroute.testing import fail

    with FakeProvider() as provider:
        provider.always(reply or fail(500))
        config = {**deployments(provider.base_url), "strategies": ["asking", "semantic"]}
        router = Router.load(routing_index, config=config, strategies={"asking": Asking})
        decision = router.route("how do I boil an egg")
        router.close()
    assert decision.strategy == strategy


def test_what_a_strategy_is_told_changes_the_policy_of_an_experiment() -> None:
    configs = [
        load_config({"strategies": ["mine"], "mine": {"fails": fails}}, strategies={"mine": First})
        for fails in ("", "none", "none")
    ]
    prints = [trial_fingerprint(configs[0], config) for config in configs]
    assert prints[0] != prints[1] == prints[2]
    assert configs[1] == configs[2] != configs[0]


def test_the_message_of_a_plugin_s_validator_is_shown_with_its_place() -> None:
    plugins = Plugins.of(strategies={"mine": First})
    config, (problem,) = validate("strategies: [mine]\nmine:\n  fails: MOON\n", plugins=plugins)
    assert config is None
    assert (problem.key, problem.line, problem.text) == ("mine.fails", 3, "must not shout; correct it")


def test_an_overlay_keeps_plugins_and_drops_sections_that_it_does_not_name(tmp_path: Path) -> None:
    from semroute.config.load import overlaid

    config = load_config({"strategies": ["mine"], "mine": {"fails": "none"}}, strategies={"mine": First})
    (tmp_path / "same.yaml").write_text("fallback: {models: [large]}")
    same = overlaid(config, tmp_path / "same.yaml")
    assert same.plugin_strategies["mine"].options.fails == "none"
    (tmp_path / "other.yaml").write_text("strategies: [semantic]")
    assert overlaid(config, tmp_path / "other.yaml").plugin_strategies == {}


class Choosing:
    """A strategy that decides on models, or leaves them, and finds a category or none."""

    name, needs_vectors = "choosing", False

    class Options(BaseModel):
        kind: Literal["decided", "narrowed"]
        use: tuple[str, ...]
        category: str | None = None

    def __init__(self, options: Options, setup: StrategySetup) -> None:
        self._result = StrategyResult(self.name, options.kind, "so it is told", options.use, options.category)

    def decide(self, cases: Sequence[RoutingContext]) -> list[StrategyResult]:
        return [self._result] * len(cases)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "more", "tiers"),
    [
        ({"kind": "decided", "use": ["medium"]}, {}, ()),
        ({"kind": "decided", "use": ["medium"]}, {"start": "decided"}, ("medium", "large")),
        ({"kind": "decided", "use": ["small", "large"], "category": "cooking"}, {}, ("small", "large")),
        ({"kind": "narrowed", "use": ["medium", "large"]}, {}, ("medium", "large")),
    ],
)
def test_a_cascade_keeps_to_what_a_plugin_has_decided_or_left(
    routing_index: Path, options: dict[str, Any], more: dict[str, Any], tiers: tuple[str, ...]
) -> None:
    models = ["small", "medium", "large"]
    config = {
        **SEMANTIC,
        "deployments": [{"name": name, "model": name, "base_url": "http://localhost:9"} for name in models],
        "strategies": ["choosing", "semantic"],
        "choosing": options,
        "categories": {name: {"models": models} for name in ("code", "cooking", "law")},
        "cascade": {"tiers": models, **more},
    }
    router = Router.load(routing_index, config=config, strategies={"choosing": Choosing})
    decision = router.route("how do I boil an egg")
    answering = Answering(router.config, chain_of(router.live, router.config).pool, router.live.without_models)
    assert tuple(name for tier in answering.with_tiers(decision).cascade for name in tier) == tiers


class Starts:
    """A check that answers begin with a word; with ``anything`` it gives no check result."""

    name, wants_logprobs = "starts", False

    class Options(BaseModel):
        word: str

    def __init__(self, options: Options) -> None:
        self._word = options.word

    async def judge(self, answered: Any) -> Any:
        if self._word == "anything":
            return True
        return CheckResult(self.name, answered.completion.text.startswith(self._word), f"wants {self._word}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "model", "skipped"), [("Four", "large", False), ("Two", "small", False), ("anything", "small", True)]
)
def test_a_check_is_handed_in(routing_index: Path, word: str, model: str, skipped: bool) -> None:
    with FakeProvider() as provider:
        provider.script(answer("Two minutes."), answer("Four minutes."))
        places = [
            {"name": name, "model": name, "base_url": provider.base_url, "price": {"input": 1, "output": 1}}
            for name in ("small", "large")
        ]
        accept = {"format": False, "starts": {"word": word}}
        config = {
            **SEMANTIC,
            "deployments": places,
            "fallback": {"models": ["small", "large"]},
            "categories": {"cooking": {"models": ["small", "large"]}},
            "cascade": {"tiers": ["small", "large"], "accept": accept},
        }
        router = Router.load(routing_index, config=config, checks={"starts": Starts})
        completion = router.complete("how do I boil an egg")
        router.close()
    assert completion.model == model
    (check,) = completion.tiers[0].checks
    assert (check.check, check.skipped) == ("starts", skipped)


class Echo:
    """An adapter that calls nothing."""

    base_url = "http://localhost:9"

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def complete(self, client: Any, target: Any, request: Request, *, within_s: Any) -> Completion:
        said = str(request.messages[-1]["content"])
        if said == "fail":
            raise KeyError(f"no such thing, {target.key}")
        if said == "nothing":
            return None  # type: ignore[return-value]
        if said == "hang":
            await asyncio.Event().wait()
        return Completion(said, target.deployment.model, target.deployment.name, "echo", "stop", None, 1.0)

    async def stream(
        self, client: Any, target: Any, request: Request, *, within_s: Any
    ) -> AsyncGenerator[Delta | Completion]:
        completion = await self.complete(client, target, request, within_s=within_s)
        for word in completion.text.split():
            yield Delta(word)
        if completion.text != "endless":
            yield completion


def echoing(routing_index: Path, **more: Any) -> Router:
    config = deployments("", "echo")
    del config["deployments"][0]["base_url"]
    config["deployments"][0] |= more
    return Router.load(routing_index, config=config, providers={"echo": Echo})


@pytest.mark.slow
def test_a_provider_is_handed_in(routing_index: Path) -> None:
    router = echoing(routing_index)
    assert router.config.deployments[0].base_url == "http://localhost:9"
    assert router.complete("boil an egg").text == "boil an egg"

    async def streamed() -> list[str]:
        return [piece.text for piece in [piece async for piece in router.astream("boil an egg")]]

    assert asyncio.run(streamed()) == ["boil", "an", "egg", "boil an egg"]
    router.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "words"),
    [("fail", "failed: KeyError: 'no such thing, [key]'"), ("nothing", "gives a NoneType where a completion is due")],
)
def test_what_a_provider_raises_is_a_failure_of_its_endpoint(
    routing_index: Path, monkeypatch: pytest.MonkeyPatch, said: str, words: str
) -> None:
    monkeypatch.setenv("ECHO_KEY", "echo-secret")
    router = echoing(routing_index, api_key_env="ECHO_KEY")
    with pytest.raises(MalformedResponseError) as raised:
        router.complete(said)
    assert words in str(raised.value)
    assert "echo-secret" not in str(raised.value)
    router.close()


@pytest.mark.slow
def test_a_provider_that_overlooks_its_limits_is_cut_off(routing_index: Path) -> None:
    router = echoing(routing_index, timeout_s=0.05)
    with pytest.raises(DispatchError) as raised:
        router.complete("hang")
    assert "no answer in time" in str(raised.value)
    router.close()


@pytest.mark.slow
def test_a_stream_without_a_completion_is_a_failure(routing_index: Path) -> None:
    router = echoing(routing_index)

    async def streamed() -> None:
        async for _ in router.astream("endless"):
            pass

    with pytest.raises(DispatchError, match="where a completion is due"):
        asyncio.run(streamed())
    router.close()


class Letters:
    """An encoder by the counts of letters."""

    name, dimensions = "letters", 27

    def __init__(self, argument: str) -> None:
        self.fingerprint = f"letters-{argument}"

    def encode(self, texts: Sequence[str]) -> Any:
        counts = np.full((len(texts), 27), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for letter in text.casefold():
                counts[row, ord(letter) - 96 if "a" <= letter <= "z" else 0] += 1
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def test_an_encoder_is_handed_in_and_recorded(tmp_path: Path) -> None:
    plugins = Plugins.of(encoders={"letters": Letters})
    encoder = open_plugin_encoder("letters:of:latin", plugins)
    described = save_encoder(encoder, tmp_path)
    assert (described["kind"], described["spec"], described["package"]) == ("plugin", "letters:of:latin", "")
    assert encoder.fingerprint == "letters-of:latin"
    config = load_config({"encoder": "letters:of:latin"}, encoders={"letters": Letters})
    loaded = load_encoder(described, tmp_path, config.encoder)
    np.testing.assert_array_equal(loaded.encode(["an egg"]), encoder.encode(["an egg"]))
    with pytest.raises(EncoderError, match="has changed since the index was built"):
        load_encoder({**described, "fingerprint": "letters-2"}, tmp_path, config.encoder)
    with pytest.raises(ArtifactError, match="if you trust it"):
        load_encoder(described, tmp_path, load_config({"encoder": "letters"}, encoders={"letters": Letters}).encoder)
    with pytest.raises(EncoderError, match='no encoder is named "letters"'):
        load_encoder({**described, "package": None}, tmp_path, load_config({"encoder": "letters:of:latin"}).encoder)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("strategies", "rules"), ("checks", "confidence"), ("encoders", "onnx"), ("providers", "anthropic")],
)
def test_what_is_built_in_is_not_replaced(kind: str, name: str) -> None:
    mapping: Mapping[str, Any] = {kind: {name: First}}
    with pytest.raises(PluginError, match="built-in one, which cannot be replaced"):
        load_config({}, **mapping)


@pytest.mark.slow
def test_plugins_are_not_handed_in_beside_a_configuration_that_is_valid_already(routing_index: Path) -> None:
    with pytest.raises(ConfigError, match="hand them to load_config"):
        Router.load(routing_index, config=Config(), strategies={"mine": First})
    config = load_config({**SEMANTIC, "strategies": ["mine"]}, strategies={"mine": First})
    assert Router.load(routing_index, config=config).route("boil an egg").strategy == "mine"


@pytest.mark.slow
@given(names=st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=6), asked=st.text(max_size=8))
def test_a_registry_finds_what_was_handed_in_and_nothing_else(names: list[str], asked: str) -> None:
    factories = dict.fromkeys(names, replace)
    plugins = Plugins.of(checks=factories)
    found = plugins.find("checks", asked)
    assert (found is not None) == (asked in factories)
    assert plugins.find("encoders", asked) is None
    assert set(factories) <= set(plugins.names("checks"))
