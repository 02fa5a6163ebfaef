"""How a policy on trial does beside the one that serves, from the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from semroute.evaluate.curves.bootstrap import Interval
from semroute.evaluate.mean import mean_interval
from semroute.evaluate.plain import finite
from semroute.evaluate.rate import Rate
from semroute.types import TRIAL, LoggedOutcome


@dataclass(frozen=True, slots=True)
class Arm:
    """The queries that one of the two has decided.

    Attributes:
        queries: how many.
        cost: mean USD of a query; None where no cost is known.
        feedback: mean judgement; None without any.
        judged: answers with feedback.
        escalated: of queries that went up a cascade.
    """

    queries: int
    cost: Interval | None
    feedback: Interval | None
    judged: int
    escalated: Rate


@dataclass(frozen=True, slots=True)
class TrialReport:
    """Both policies.

    Attributes:
        serving: queries that the serving policy decided while one was on trial.
        trying: queries that the policy on trial decided.
        agreement: queries for which both name the same model first.
    """

    serving: Arm
    trying: Arm
    agreement: Rate

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        told = finite(asdict(self))
        assert isinstance(told, dict)
        return told


@dataclass(slots=True)
class _Gathered:
    queries: int = 0
    costs: list[float] = field(default_factory=list)
    feedback: list[float] = field(default_factory=list)
    cascaded: int = 0
    escalated: int = 0

    def add(self, outcome: LoggedOutcome) -> None:
        self.queries += 1
        self.cascaded += bool(outcome.trials)
        self.escalated += outcome.escalated
        if outcome.cost_usd is not None:
            self.costs.append(outcome.cost_usd)
        if outcome.feedback is not None:
            self.feedback.append(outcome.feedback)

    @property
    def arm(self) -> Arm:
        escalated = Rate.of(self.escalated, self.cascaded)
        return Arm(
            self.queries,
            mean_interval(self.costs, low=0),
            mean_interval(self.feedback, low=0, high=1),
            len(self.feedback),
            escalated,
        )


def trial_report(outcomes: Iterable[LoggedOutcome]) -> TrialReport:
    """Of the outcomes on which both policies were asked."""
    arms = {False: _Gathered(), True: _Gathered()}
    same = both = 0
    for outcome in outcomes:
        said = _of_trial(outcome.opinions)
        if said is None:
            continue
        arms[said.get("kind") == "decided"].add(outcome)
        named = said.get("candidates")
        if isinstance(named, Sequence) and named:
            both += 1
            same += named[0] == outcome.candidates[0]
    return TrialReport(arms[False].arm, arms[True].arm, Rate.of(same, both))


def _of_trial(opinions: Sequence[Mapping[str, object]]) -> Mapping[str, object] | None:
    return next((opinion for opinion in opinions if opinion.get("strategy") == TRIAL), None)
