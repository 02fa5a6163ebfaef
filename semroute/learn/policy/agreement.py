"""Policy families that accept an answer on which two models agree.

Different models err in different ways, so an answer that two of them give is seldom wrong, and nothing is trained for
it. Both are charged, and a third, more expensive model where they disagree. ``scripts/bench_agreement.py`` compares it
with its controls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from semroute.cascade.refusals import refusal_in
from semroute.evaluate.replay import choose, values
from semroute.learn.policy.families import (
    BLEND_POINTS,
    Config,
    PairAgreement,
    PolicyData,
    PolicyOutcomes,
    value_in_yaml,
    worth_in_words,
)
from semroute.outcomes.table import OutcomeTable
from semroute.text.final_answer import FinalAnswer, final_answer

# Agreement of recorded answers.

CHEAPEST = 4
"""Most models of which pairs are compared: each further pair is one more policy that may win by chance."""

AgreementOfPairs: TypeAlias = dict[tuple[int, int], PairAgreement]


def pairs_to_compare(table: OutcomeTable) -> list[tuple[int, int]]:
    """Return pairs of the cheapest models with answers, cheaper first.

    The most expensive model is in no pair: nothing could follow a disagreement.
    """
    if table.responses is None:
        return []
    order = np.argsort(table.cost.mean(axis=0, dtype=np.float64), kind="stable")[:-1].tolist()
    answered = [number for number in order if all(answers[number] is not None for answers in table.responses)]
    return list(combinations(answered[:CHEAPEST], 2))


def agreement_of_pairs(table: OutcomeTable, pairs: Sequence[tuple[int, int]]) -> AgreementOfPairs:
    """Return, by pair, where the second model is asked and where it agrees.

    Final answers are read and compared as by the check ``accept.agreement``: refusals agree with nothing, and nobody
    is asked about an answer that cannot be compared.

    Args:
        table: outcomes of ``n`` rows, with answers of the models of the pairs.
        pairs: numbers of the models, from :func:`pairs_to_compare`.
    """
    if table.responses is None or not pairs:
        return {}
    said = {
        model: [
            _said(answers[model] or "", query) for query, answers in zip(table.queries, table.responses, strict=True)
        ]
        for model in sorted({model for pair in pairs for model in pair})
    }
    found: AgreementOfPairs = {}
    for first, second in pairs:
        both = list(zip(said[first], said[second], strict=True))
        asked = [one is not None for one, _ in both]
        agreed = [one is not None and other is not None and one.agrees_with(other) for one, other in both]
        found[first, second] = PairAgreement(np.array(asked, np.bool_), np.array(agreed, np.bool_))
    return found


def _said(answer: str, query: str) -> FinalAnswer | None:
    return None if refusal_in(answer) is not None else final_answer(answer, query)


# Plans and families.


@dataclass(frozen=True, slots=True)
class AgreementPlan:
    """Two models that must agree, and a third one where they do not.

    Attributes:
        first: number of the model whose answer is returned where the second agrees.
        second: number of the model that is asked to agree.
        third: number of the model that answers otherwise.
    """

    first: int
    second: int
    third: int

    def play(self, part: PolicyData) -> PolicyOutcomes:
        """Replay the plan on every row; every call is charged."""
        pair = part.agreement[self.first, self.second]
        quality, cost = part.quality.astype(np.float64), part.cost.astype(np.float64)
        returned = np.where(pair.agreed, quality[:, self.first], quality[:, self.third])
        usd = cost[:, self.first] + np.where(pair.asked, cost[:, self.second], 0.0)
        return PolicyOutcomes(returned, usd + np.where(pair.agreed, 0.0, cost[:, self.third]))

    def cascade(self, models: Sequence[str]) -> dict[str, Any]:
        """Return the cascade section of ``semroute.yaml``."""
        agreement = [models[self.first], models[self.second]]
        # The third model's answer is returned unchecked, as it was when the policy was tested.
        tiers = [models[self.first], {"use": models[self.third], "accept": {"format": False}}]
        return {"tiers": tiers, "accept": {"format": False, "agreement": agreement}}

    def words(self, models: Sequence[str]) -> str:
        """Describe the plan for display."""
        return f"{models[self.first]} where {models[self.second]} agrees, else {models[self.third]}"


def plans_of(part: PolicyData, third: int) -> tuple[AgreementPlan, ...]:
    """Return the plans whose pairs are both cheaper than the third model."""
    cost = part.cost.mean(axis=0, dtype=np.float64)
    return tuple(AgreementPlan(*pair, third) for pair in part.agreement if max(cost[list(pair)]) < cost[third])


@dataclass(frozen=True)
class ByAgreement:
    """Agreement for all queries; the parameter is the plan.

    All pairs are one family, so that they share one part of the permitted error.

    Attributes:
        models: names.
        plans: to try.
    """

    models: Sequence[str]
    plans: tuple[AgreementPlan, ...]
    name: str = "agreement"
    asks_classifier: bool = False

    def tried(self, tuning: PolicyData) -> Iterator[tuple[AgreementPlan, PolicyOutcomes]]:
        """Yield every plan; nothing is fitted."""
        for plan in self.plans:
            yield plan, plan.play(tuning)

    def play(self, parameter: AgreementPlan, part: PolicyData) -> PolicyOutcomes:
        """Replay; an answer without agreement is paid for, and escalated."""
        return parameter.play(part)

    def config(self, parameter: AgreementPlan) -> Config:
        """Send all to the fallback, which is the cascade.

        Its models limit the tiers and the models that are asked to agree.
        """
        names = [self.models[number] for number in (parameter.first, parameter.second, parameter.third)]
        cascade = parameter.cascade(self.models)
        return {"strategies": ["rules"], "rules": [], "fallback": {"models": names}, "cascade": cascade}

    def checks(self, parameter: AgreementPlan) -> frozenset[int]:
        """Return no model: nothing is trained."""
        return frozenset()

    def words(self, parameter: AgreementPlan) -> str:
        """Describe the plan."""
        return f"{self.name}: {parameter.words(self.models)}"


@dataclass(frozen=True)
class ByClassifierAndAgreement:
    """Classifier before agreement; the parameters are value (USD) and plan.

    Queries that are predicted to be hard go to the third model at once.

    Attributes:
        models: names.
        plans: to try.
        folder: of the policy.
    """

    models: Sequence[str]
    plans: tuple[AgreementPlan, ...]
    folder: str
    name: str = "classifier and agreement"
    asks_classifier: bool = True

    def tried(self, tuning: PolicyData) -> Iterator[tuple[tuple[float, AgreementPlan], PolicyOutcomes]]:
        """Yield every value with every plan; predictions are out of fold."""
        for plan in self.plans:
            ends = [plan.first, plan.third]
            for value in values(tuning.predicted[:, ends], tuning.expected[:, ends], BLEND_POINTS).tolist():
                yield (value, plan), self.play((value, plan), tuning)

    def play(self, parameter: tuple[float, AgreementPlan], part: PolicyData) -> PolicyOutcomes:
        """Replay on some rows.

        The classifier compares the first and the third model, as the router does.
        """
        value, plan = parameter
        ends = [plan.first, plan.third]
        skips = choose(part.predicted[:, ends], part.expected[:, ends], value) == 1
        compared, direct = plan.play(part), PolicyOutcomes.of(part, np.full(len(part), plan.third))
        quality = np.where(skips, direct.quality, compared.quality)
        return PolicyOutcomes(quality, np.where(skips, direct.cost, compared.cost))

    def config(self, parameter: tuple[float, AgreementPlan]) -> Config:
        """Start the cascade at the tier that the classifier selects."""
        value, plan = parameter
        names = [self.models[plan.first], self.models[plan.third]]
        return {
            "strategies": ["classifier"],
            "classifier": {"folder": f"{self.folder}/classifier", "value": value_in_yaml(value), "candidates": names},
            "fallback": {"models": [self.models[plan.third]]},
            "cascade": {**plan.cascade(self.models), "start": "decided"},
        }

    def checks(self, parameter: tuple[float, AgreementPlan]) -> frozenset[int]:
        """Return no model: the classifier is of queries."""
        return frozenset()

    def words(self, parameter: tuple[float, AgreementPlan]) -> str:
        """Describe value and plan."""
        value, plan = parameter
        return f"{self.name}: quality worth {worth_in_words(value)}; {plan.words(self.models)}"
