"""Report a shadow or A/B test: the policy on trial and the serving one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from semroute.evaluate.metrics import Interval, Rate, finite, mean_interval
from semroute.types import TRIAL, LoggedComparison, LoggedOutcome


@dataclass(frozen=True, slots=True)
class Arm:
    """Figures of the queries decided by one of the two policies.

    Attributes:
        queries: number of queries.
        cost: mean USD of a query; None where no cost is known.
        feedback: mean judgement; None without any.
        judged: answers with feedback.
        escalated: share among queries of cascades.
    """

    queries: int
    cost: Interval | None
    feedback: Interval | None
    judged: int
    escalated: Rate


@dataclass(frozen=True, slots=True)
class ShareReport:
    """Figures of both policies while the trial had one traffic share.

    Attributes:
        share: traffic share of the policy on trial.
        serving: queries that the serving policy decided.
        trying: queries that the policy on trial decided.
    """

    share: float
    serving: Arm
    trying: Arm


@dataclass(frozen=True, slots=True)
class ComparisonCard:
    """Blind comparisons of two policies' answers to the same requests.

    Only requests for which they chose different models are compared.

    Attributes:
        won: comparisons in which the answer of the policy on trial was the better one.
        tied: those in which neither was, also where the judge's preference changed with the order of the answers.
        lost: those in which the serving policy's answer was the better one.
        failed: those that ended without a result, or are under way.
        no_worse: share of won and tied among those with a result, with its Wilson interval.
        lead: share of won minus share of lost, with the normal interval of the paired difference; None without any.
        usd: cost of all, the other answers and the judge together.
    """

    won: int
    tied: int
    lost: int
    failed: int
    no_worse: Rate
    lead: Interval | None
    usd: float

    @classmethod
    def of(cls, comparisons: Iterable[LoggedComparison]) -> ComparisonCard:
        """Count comparisons."""
        found, usd = Counter[str | None](), 0.0
        for one in comparisons:
            found[one.result] += 1
            usd += one.cost_usd
        won, tied, lost = found["won"], found["tied"], found["lost"]
        lead = mean_interval([1.0] * won + [0.0] * tied + [-1.0] * lost, low=-1, high=1)
        return cls(won, tied, lost, found[None], Rate.of(won + tied, won + tied + lost), lead, usd)

    @property
    def sentence(self) -> str:
        """Return the result as a sentence."""
        rate = self.no_worse
        if not rate.n:
            return "no two answers were compared yet"
        return (
            f"the answers of the policy on trial were no worse in {rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%}) "
            f"of {rate.n:,} comparisons, on requests for which the policies chose different models"
        )

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        values = finite(asdict(self))
        assert isinstance(values, dict)
        return {**values, "sentence": self.sentence}


@dataclass(frozen=True, slots=True)
class TrialReport:
    """Results of a trial of a policy.

    Attributes:
        shares: results by traffic share, the last first. The two policies are comparable only within one share: over
            all, the policy on trial has more of the days on which its share was larger.
        agreement: queries for which both name the same model first.
        others: queries of experiments with other policies, which are left out.
        failed: queries on which the policy on trial failed. They are in neither arm: the serving policy answered them
            all, so its arm would have more of the queries on which the policy on trial fails.
    """

    shares: tuple[ShareReport, ...]
    agreement: Rate
    others: int
    failed: int

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        values = finite(asdict(self))
        assert isinstance(values, dict)
        return values


@dataclass(slots=True)
class _ArmTally:
    queries: int = 0
    costs: list[float] = field(default_factory=list)
    feedback: list[float] = field(default_factory=list)
    cascaded: int = 0
    escalated: int = 0

    def add(self, outcome: LoggedOutcome) -> None:
        self.queries += 1
        self.cascaded += bool(outcome.tiers)
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


def trial_report(outcomes: Iterable[LoggedOutcome], policy: str) -> TrialReport:
    """Report on the outcomes that both policies decided, in order of arrival.

    Args:
        outcomes: of the log.
        policy: the pair of policies, as :attr:`~semroute.types.Assignment.policy` names it.
    """
    arms: dict[float, dict[bool, _ArmTally]] = {}
    same = both = others = failed = 0
    for outcome in outcomes:
        experiment = next((result for result in outcome.opinions if result.get("strategy") == TRIAL), None)
        if experiment is None:
            continue
        assignment = experiment.get("draw")
        if not isinstance(assignment, Mapping) or assignment.get("policy") != policy:
            others += 1
            continue
        candidates = experiment.get("candidates")
        if not isinstance(candidates, Sequence) or not candidates:
            failed += 1
            continue
        share = float(str(assignment.get("share")))
        pair = arms.pop(share, None) or {False: _ArmTally(), True: _ArmTally()}
        arms[share] = pair  # the share of the last outcome is the last
        pair[experiment.get("kind") == "decided"].add(outcome)
        both += 1
        same += candidates[0] == outcome.candidates[0]
    shares = tuple(ShareReport(share, pair[False].arm, pair[True].arm) for share, pair in reversed(arms.items()))
    return TrialReport(shares, Rate.of(same, both), others, failed)
