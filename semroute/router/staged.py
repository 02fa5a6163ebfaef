"""Texts to scores by the stages of an index: the hot path of every decision and every measurement."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.semantic import decide
from semroute.index.stages import answers, margin_score
from semroute.router.live import LoadedIndex
from semroute.router.unknown import NO_SCORE, SURE_SCORE, unknown_texts
from semroute.texts.asks import QuestionPart, question_parts
from semroute.texts.vague import VAGUE_ASKS, is_vague
from semroute.types import Matrix

CUE = 0.1
CHOICE_CUE = 0.2
"""Sureness that a cue of its form is worth to a part of a text that may be the question: before the bar each cue beyond
the first, and each one beside other parts. Chosen on ``tests/data/texts/development``."""

CLEAR = 2
"""Cues of a question that a vague one beside it does not silence."""


@dataclass(frozen=True, slots=True)
class StageScores:
    """Scores of some texts, and how they came about.

    Attributes:
        scores: ``(n, categories)``, each row by the stage that answered.
        confidence: ``(n,)`` calibrated probability that the best category is right, given that the text is in scope.
        first: ``(n,)`` whether the first stage answered.
        first_s: wall time of the first stage, seconds; None where the index has none.
        second_s: wall time of the index's own encoder and scorer by step, seconds; empty where no text came so far.
        vectors: ``(m, d)`` by the index's own encoder, of those that the first stage did not answer, in their order.
        unknown: ``(n,)`` whether the index's own encoder knows no word of a text, so that its scores say nothing.
        by_ask: rows whose scores are those of the question beside a pasted text.
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
        """A text's share of each step, milliseconds: one that the first stage answered, and any other one.

        Args:
            deciding_s: what it took to decide on all scores, seconds; it counts as part of scoring.
        """
        deciding = deciding_s * 1000.0 / len(self.first)
        first = 0.0 if self.first_s is None else self.first_s * 1000.0 / len(self.first)
        rest = max(1, len(self.first) - int(np.count_nonzero(self.first)))
        steps = {step: spent * 1000.0 / rest for step, spent in self.second_s.items()}
        steps["score"] = steps.get("score", 0.0) + deciding
        before = {} if self.first_s is None else {"first_stage": first}
        return {"first_stage": first + deciding}, before | steps


def score_texts(live: LoadedIndex, texts: Sequence[str]) -> StageScores:
    """Score ``texts``; those that the first stage answers never reach the index's own encoder.

    A text that holds something pasted has the scores of the question beside it, where one is sure enough.

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
    """Put the scores of the likeliest question in place of a text's own.

    A part counts if its category accepts it, and if it is sure enough or the text as a whole is rejected. Its form
    speaks for it as well as its score. Where the likeliest question is a vague one, the text as a whole decides.
    """
    start = time.perf_counter()
    texts = [ask.text for found in parts.values() for ask in found]
    # In a run of their own: in an int8 encoder a text's vector depends a little on what is beside it.
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
    """Parts that say something of their own; none where a vague one is the likeliest question of a text."""
    said = [number for number in cues if not vague[number]]
    asked = max((cues[number] for number in said), default=0)
    left = max((count for number, count in cues.items() if vague[number]), default=0)
    return [] if left and (left >= asked or asked < CLEAR) else said


def _vague(live: LoadedIndex, texts: Sequence[str], vectors: Matrix) -> NDArray[np.bool_]:
    """Tell which questions say nothing of their own, by their words or by examples of such questions.

    Examples speak where a question is nearer to one than they typically are to each other. What the encoder does not
    know says nothing to it.
    """
    found = unknown_texts(live.encoder, texts) | np.array([is_vague(text) for text in texts])
    # The encoder of a live index remembers these.
    examples = live.encoder.encode(VAGUE_ASKS)
    among = examples @ examples.T
    np.fill_diagonal(among, -1)
    near = (vectors @ examples.T).max(axis=1) > np.median(among.max(axis=1))
    return np.asarray(found | near)


def _by_stages(
    live: LoadedIndex, texts: Sequence[str], pasted: Sequence[int], unknown: NDArray[np.bool_]
) -> StageScores:
    """Score whole texts; the rows ``pasted`` are left to the index's own encoder, which also scores their parts."""
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
    """The scores as thresholds have to see them so that evaluating decides as serving does.

    A text that the encoder does not know fits the category that has it as an example, and else none.
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
