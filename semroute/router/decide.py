"""Decisions of one index and configuration: staged scores, then a chain.

Builds the configured strategies, scores texts by the stages of an index, and runs the chain of strategies from
synchronous and asynchronous code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from random import Random
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute.config import Config
from semroute.dispatch.constraints import Constraints
from semroute.errors import ArtifactError, ConfigError
from semroute.evaluate.routing import decide
from semroute.index.scoring import answers, margin_score
from semroute.router.load import LoadedIndex
from semroute.router.query import NO_SCORE, SURE_SCORE, unknown_texts
from semroute.strategies import Chain, Pool, SemanticMatch, Strategy
from semroute.strategies.base import RoutingContext, StrategySetup, Vector, plugin_strategy
from semroute.text.asks import VAGUE_ASKS, QuestionPart, is_vague, question_parts
from semroute.text.language import UNDETERMINED
from semroute.types import Attempt, Matrix, ModelClient, Request, StrategyResult, StrategyResultKind

if TYPE_CHECKING:
    from semroute.dispatch import Dispatcher
    from semroute.strategies.rules import RulesStrategy


# Two-stage scoring: the hot path of every decision and every measurement.

CUE = 0.1
CHOICE_CUE = 0.2
"""Margin score that a formal cue adds to a part of a text that may be the question: against the accept threshold each
cue beyond the first (``CUE``), in the comparison of parts each one (``CHOICE_CUE``). Chosen on
``tests/samples/texts/development``."""

CLEAR = 2
"""Number of cues from which a question counts despite a vague one in the same text."""


@dataclass(frozen=True, slots=True)
class StageScores:
    """Two-stage scores of some texts, and the stage behind each.

    Attributes:
        scores: ``(n, categories)``, each row by the stage that answered.
        confidence: ``(n,)`` calibrated probability that the best category is right, given that the text is in scope.
        first: ``(n,)`` True where the first stage answered.
        first_s: wall time of the first stage, seconds; None where the index has none.
        second_s: wall time of the index's own encoder and scorer by step, seconds; empty where no text came so far.
        vectors: ``(m, d)`` by the index's own encoder, of those that the first stage did not answer, in their order.
        unknown: ``(n,)`` True for a text outside the vocabulary of the index's own encoder: its scores mean nothing.
        by_ask: rows with the scores of the question that comes with a pasted text.
    """

    scores: Matrix
    confidence: NDArray[np.float64]
    first: NDArray[np.bool_]
    first_s: float | None
    second_s: Mapping[str, float]
    vectors: Matrix
    unknown: NDArray[np.bool_]
    by_ask: frozenset[int] = frozenset()

    def steps_ms(self, deciding_s: float) -> tuple[dict[str, float], dict[str, float]]:
        """Return each step's milliseconds per text, of first and second stage.

        Args:
            deciding_s: time of deciding on all scores, seconds; it counts as part of scoring.
        """
        deciding = deciding_s * 1000.0 / len(self.first)
        first = 0.0 if self.first_s is None else self.first_s * 1000.0 / len(self.first)
        rest = max(1, len(self.first) - int(np.count_nonzero(self.first)))
        steps = {step: spent * 1000.0 / rest for step, spent in self.second_s.items()}
        steps["score"] = steps.get("score", 0.0) + deciding
        before = {} if self.first_s is None else {"first_stage": first}
        return {"first_stage": first + deciding}, before | steps


def score_texts(live: LoadedIndex, texts: Sequence[str]) -> StageScores:
    """Score texts by the stages of an index.

    Texts that the first stage answers never reach the index's own encoder. A text with something pasted into it gets
    the scores of the question that comes with it, if the margin score of one is high enough.

    Raises:
        EncoderError: a remote encoder did not answer.
    """
    unknown = unknown_texts(live.encoder, texts)
    bar = live.artifact.manifest.ask_bar
    seen = enumerate(texts) if bar is not None else ()
    parts = {row: found for row, text in seen if not unknown[row] and (found := question_parts(text))}
    whole = _by_stages(live, texts, list(parts), unknown)
    return whole if bar is None or not parts else _by_asks(live, whole, parts, bar)


def _by_asks(
    live: LoadedIndex, whole: StageScores, parts: Mapping[int, Sequence[QuestionPart]], bar: float
) -> StageScores:
    """Replace the scores of texts by those of their likeliest question.

    A part counts if its category accepts it, and if its margin score is high enough or the text as a whole is rejected.
    Cues of its form count as well as its score. Where the likeliest question is vague, the text as a whole decides.
    """
    start = time.perf_counter()
    texts = [ask.text for found in parts.values() for ask in found]
    # In a separate run: in an int8 encoder a text's vector depends a little on the rest of its batch.
    vectors = live.encoder.encode(texts)
    vague = _vague(live, texts, vectors)
    encoded = time.perf_counter()
    scores, thresholds = live.scorer.scores(vectors), live.semantic.thresholds
    sure, accepted = margin_score(scores), decide(scores, thresholds)[1]
    chosen, place, decided = whole.scores.copy(), 0, set()
    for row, found in parts.items():
        rejected = not decide(whole.scores[row : row + 1], thresholds)[1][0]
        cues = {place + number: ask.cues for number, ask in enumerate(found)}
        place += len(found)
        said = _saying(cues, vague)
        fit = [n for n in said if accepted[n] and (rejected or sure[n] + CUE * (cues[n] - 1) >= bar)]
        if fit:
            decided.add(row)
            chosen[row] = scores[max(fit, key=lambda n: sure[n] + CHOICE_CUE * cues[n])]
    rows = np.fromiter(parts, np.int64)
    confidence = whole.confidence.copy()
    confidence[rows] = live.scorer.confidence(chosen[rows])
    spent = {"encode": encoded - start, "score": time.perf_counter() - encoded}
    steps = {step: seconds + spent.get(step, 0.0) for step, seconds in whole.second_s.items()}
    return replace(whole, scores=chosen, confidence=confidence, second_s=steps, by_ask=frozenset(decided))


def _saying(cues: Mapping[int, int], vague: NDArray[np.bool_]) -> list[int]:
    """Return the specific parts; none if the likeliest question is vague."""
    said = [number for number in cues if not vague[number]]
    asked = max((cues[number] for number in said), default=0)
    left = max((count for number, count in cues.items() if vague[number]), default=0)
    return [] if left and (left >= asked or asked < CLEAR) else said


def _vague(live: LoadedIndex, texts: Sequence[str], vectors: Matrix) -> NDArray[np.bool_]:
    """Return a mask of vague questions, by their words or by examples.

    By the examples a question is vague if it is nearer to one than they typically are to each other. Texts outside the
    encoder's vocabulary are vague.
    """
    found = unknown_texts(live.encoder, texts) | np.array([is_vague(text) for text in texts])
    # The encoder of a loaded index caches these.
    examples = live.encoder.encode(VAGUE_ASKS)
    among = examples @ examples.T
    np.fill_diagonal(among, -1)
    near = (vectors @ examples.T).max(axis=1) > np.median(among.max(axis=1))
    return np.asarray(found | near)


def _by_stages(
    live: LoadedIndex, texts: Sequence[str], pasted: Sequence[int], unknown: NDArray[np.bool_]
) -> StageScores:
    """Score whole texts; rows in ``pasted`` skip the first stage.

    The index's own encoder scores these, since it also scores their parts.
    """
    if live.first is None:
        return _by_second(live, texts, unknown)
    start = time.perf_counter()
    scores = live.first.scorer.scores(live.first.encoder.encode(texts))
    confidence = live.first.scorer.confidence(scores)
    answered = answers(scores, live.semantic.thresholds, live.first.bar)
    answered[list(pasted)] = False
    first_s = time.perf_counter() - start
    if answered.all():
        none = np.empty((0, live.encoder.dimensions), np.float32)
        return StageScores(scores, confidence, answered, first_s, {}, none, unknown)
    rest = np.flatnonzero(~answered)
    second = _by_second(live, [texts[row] for row in rest.tolist()], unknown[rest])
    scores[rest], confidence[rest] = second.scores, second.confidence
    return StageScores(scores, confidence, answered, first_s, second.second_s, second.vectors, unknown)


def _by_second(live: LoadedIndex, texts: Sequence[str], unknown: NDArray[np.bool_]) -> StageScores:
    start = time.perf_counter()
    vectors = live.encoder.encode(texts)
    encoded = time.perf_counter()
    scores = live.scorer.scores(vectors)
    confidence = live.scorer.confidence(scores)
    steps = {"encode": encoded - start, "score": time.perf_counter() - encoded}
    return StageScores(scores, confidence, np.zeros(len(texts), dtype=np.bool_), None, steps, vectors, unknown)


def settled_scores(live: LoadedIndex, texts: Sequence[str], staged: StageScores) -> Matrix:
    """Return the scores with which evaluation decides as serving does.

    A text outside the encoder's vocabulary matches the category that has it as an example, and else none.
    """
    if not staged.unknown.any():
        return staged.scores
    scores = staged.scores.copy()
    for row in np.flatnonzero(staged.unknown).tolist():
        category = live.examples.category(texts[row])
        scores[row] = NO_SCORE
        if category in live.semantic.names:
            scores[row, live.semantic.names.index(category)] = SURE_SCORE
    return scores


# The chain of strategies over one index and one configuration, run synchronously or asynchronously.

NOT_KNOWN = "the index's encoder knows no word of the text"
OTHER_LANGUAGE = "the index's encoder does not know the language of the text"

Maker: TypeAlias = Callable[[LoadedIndex, Config, Pool], "Strategy | None"]
"""Factory of a strategy; None if the configuration or the index has nothing for it: it is left out silently."""


ClientFactory: TypeAlias = Callable[["Dispatcher", Constraints, "list[Attempt] | None"], ModelClient]
"""Factory of a judge's model client, within the limits of one request; the list takes every attempt when it ends."""


class SemanticStrategy:
    """Semantic routing as a strategy: embed, score, select or filter.

    Args:
        live: the loaded index that scores.
        narrows: True leaves the choice among the category's models to later strategies.
    """

    name = "semantic"
    needs_vectors = False

    def __init__(self, live: LoadedIndex, *, narrows: bool) -> None:
        self._live = live
        self._narrows = narrows

    def decide(self, contexts: Sequence[RoutingContext]) -> list[StrategyResult]:
        """Return a result for each case; set its match, steps and vector."""
        staged = score_texts(self._live, [context.text for context in contexts])
        scored = time.perf_counter()
        matches = self._live.semantic.decide(staged.scores, staged.confidence, staged.first)
        for row in np.flatnonzero(staged.unknown).tolist():
            matches[row] = self._unknown(matches[row], contexts[row].text)
        for row in staged.by_ask:
            matches[row] = replace(matches[row], reason=f"the question beside a pasted text: {matches[row].reason}")
        by_first, by_second = staged.steps_ms(time.perf_counter() - scored)
        vectors = iter(staged.vectors)
        rows = zip(contexts, matches, staged.first.tolist(), strict=True)
        return [
            self._result(context, match, by_first) if first else self._result(context, match, by_second, next(vectors))
            for context, match, first in rows
        ]

    def _unknown(self, match: SemanticMatch, text: str) -> SemanticMatch:
        unknown = self._unknown_part(text)
        category = self._live.examples.category(text)
        known = next((entry for entry in match.categories if entry.category == category), None)
        if known is None:
            chance = 1.0 / len(match.categories)
            return replace(match, category=None, confidence=chance, reason=f"{unknown}, so that it fits no category")
        reason = f"{unknown}, but it is an example of {category} as it stands"
        return replace(match, category=category, score=known.score, threshold=known.threshold, reason=reason)

    def _unknown_part(self, text: str) -> str:
        """Return the reason why the encoder does not know a text, in words."""
        language_of = getattr(self._live.encoder, "unknown_language", None)
        language = None if language_of is None else language_of(text)
        if language is None:
            return NOT_KNOWN
        return OTHER_LANGUAGE if language == UNDETERMINED else f"{OTHER_LANGUAGE} ({language})"

    def _result(
        self, context: RoutingContext, match: SemanticMatch, steps: Mapping[str, float], vector: Vector | None = None
    ) -> StrategyResult:
        context.match, context.vector = match, vector
        context.steps_ms.update(steps)
        elapsed_ms = sum(steps.values())
        if match.category is None:
            return StrategyResult(self.name, "passed", match.reason, elapsed_ms=elapsed_ms)
        kind: StrategyResultKind = "narrowed" if self._narrows else "decided"
        models = self._live.models[match.category]
        return StrategyResult(self.name, kind, match.reason, models, match.category, elapsed_ms)


def _rules(live: LoadedIndex, config: Config, pool: Pool) -> RulesStrategy | None:
    if not config.rules:
        return None
    from semroute.strategies.rules import RulesStrategy

    return RulesStrategy(config.rules, pool, live.models)


def _semantic(live: LoadedIndex, config: Config, pool: Pool) -> Strategy | None:
    return SemanticStrategy(live, narrows=config.semantic.mode == "narrow")


def _judge(live: LoadedIndex, config: Config, pool: Pool) -> Strategy | None:
    if config.judge.model is None:
        return None
    from semroute.resilience.breaker import Breaker
    from semroute.strategies.judge import JudgeStrategy, descriptions

    candidates = config.judge.candidates or judged(live, config, pool)
    about = descriptions((*pool.names, *pool.models(pool.names)), config, live.models)
    return JudgeStrategy(config, pool, candidates, about, breaker=Breaker(config.breaker, Random()))


def _classifier(live: LoadedIndex, config: Config, pool: Pool) -> Strategy | None:
    """Load the configured query classifier as a strategy.

    Raises:
        ArtifactError: the classifier cannot be read, or was trained on another encoder's vectors.
        ConfigError: it knows none of the models that it could choose.
    """
    section = config.classifier
    if section.folder is None:
        return None
    from semroute.cascade.cascade import asked_effort
    from semroute.catalog.tokens import estimate_tokens
    from semroute.outcomes.costs import configured_prices
    from semroute.predictors.query_quality import check_encoder, read_query_classifier
    from semroute.strategies.classifier import ClassifierStrategy

    try:
        classifier = read_query_classifier(section.folder)
    except ArtifactError as error:
        raise ArtifactError(f"classifier.folder: {error}") from error
    check_encoder(classifier, live.encoder, section.folder)
    placed = {deployment.model for deployment in config.deployments}
    candidates = section.candidates or tuple(name for name in classifier.models if name in placed or not placed)
    if not set(pool.models(candidates)) & set(classifier.models):
        raise ConfigError(
            f"the classifier knows none of {', '.join(candidates or sorted(placed))}; "
            f"it knows {', '.join(classifier.models)}",
            key="classifier.candidates",
        )
    costs = classifier.costs.with_prices(configured_prices(config))

    of_tiers = _tier_efforts(config, pool)

    def expected_cost(requests: Sequence[Request]) -> NDArray[np.float64]:
        tokens = [estimate_tokens(request) for request in requests]
        if not costs.efforts:
            return costs.expected(tokens)
        efforts = [[asked_effort(one, of_tiers.get(model)) for model in costs.models] for one in requests]
        return costs.expected(tokens, efforts=efforts)

    def priced_effort(request: Request, model: str) -> str | None:
        effort = asked_effort(request, of_tiers.get(model))
        return effort if costs.knows_effort(model, effort) else None

    value = classifier.value if section.value is None else section.value
    return ClassifierStrategy(classifier, expected_cost, pool, candidates, value, priced_effort)


def _tier_efforts(config: Config, pool: Pool) -> dict[str, str]:
    """Return the effort at which a cascade begins with a chosen model.

    None without a cascade.
    """
    efforts: dict[str, str | None] = {}
    if config.cascade.start == "decided":
        for tier in config.cascade.tiers:
            for model in pool.models([tier.use]):
                efforts.setdefault(model, tier.effort)
    return {model: effort for model, effort in efforts.items() if effort is not None}


MAKERS: dict[str, Maker] = {
    "rules": _rules,
    "semantic": _semantic,
    "classifier": _classifier,
    "judge": _judge,
}
"""Factory of each built-in strategy; one without anything to do is left out."""


def chain_of(live: LoadedIndex, config: Config) -> Chain:
    """Build the chain of the configured strategies, in their order.

    A strategy without anything to do is left out.

    Raises:
        ConfigError: a rule names a category that is not in the index, or the classifier knows none of the models.
        ArtifactError: the classifier cannot be used with this index.
        MissingExtraError: a rule needs an extra that is not installed.
        PluginError: the strategy of a plugin cannot be made.
    """
    pool = Pool(config.members, _names(live, config))
    made = [MAKERS.get(name, _of_plugin(name))(live, config, pool) for name in config.strategies]
    strategies = [strategy for strategy in made if strategy is not None]
    narrows = config.semantic.mode == "narrow"
    return Chain(strategies, pool, live.fallback, live.models, live.encoder.encode, narrows=narrows)


def _of_plugin(name: str) -> Maker:
    def made(live: LoadedIndex, config: Config, pool: Pool) -> Strategy | None:
        section = config.plugin_strategies[name]
        return plugin_strategy(section.plugin, section.options, StrategySetup(name, pool, live.models))

    return made


def rules_of(live: LoadedIndex, config: Config) -> RulesStrategy:
    """Build the rules alone, to trace each of them.

    Raises:
        ConfigError, MissingExtraError: as :func:`chain_of`.
    """
    from semroute.strategies.rules import RulesStrategy

    return RulesStrategy(config.rules, Pool(config.members, _names(live, config)), live.models)


def judged(live: LoadedIndex, config: Config, pool: Pool) -> tuple[str, ...]:
    """Return a judge's default candidates: named models with a deployment."""
    callable_models = {deployment.model for deployment in config.deployments}
    named = dict.fromkeys((*chain.from_iterable(live.models.values()), *live.fallback))
    return tuple(name for name in named if not callable_models.isdisjoint(pool.models([name])))


def _names(live: LoadedIndex, config: Config) -> Iterator[str]:
    """Yield every model and group that a query can be routed to."""
    yield from chain.from_iterable(live.models.values())
    yield from live.fallback
    yield from chain.from_iterable(rule.use or rule.only or () for rule in config.rules)
    yield from config.classifier.candidates or ()
    yield from config.judge.candidates or ()
    yield from (deployment.model for deployment in config.deployments)
