"""What a judge has done, and what there is to say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from semroute.learn.labelling.grading import Grade

Stop: TypeAlias = Literal["budget", "no readable grade"]

LEAST_TRIED = 5
"""Replies without a grade, before the first with one, after which a judge is given up."""


@dataclass
class JudgeRun:
    """The account of a judge.

    Attributes:
        judge: the model.
        as_json: whether its replies are held to a schema.
        wanted: answers that there were to judge.
        max_usd: the budget; None for none.
        has_graded: whether the file holds grades of it already, of an earlier run.
        judged: answers that it graded.
        without_grade: replies that hold no grade that can be read.
        spent: USD so far.
        needed: USD of the longest grades of the query that the budget kept from being judged.
        stopped_by: why it ended before all were judged; None where it did not.
        example: the first reply without a grade.
    """

    judge: str
    as_json: bool
    wanted: int
    max_usd: float | None
    has_graded: bool = False
    judged: int = 0
    without_grade: int = 0
    spent: float = 0.0
    needed: float = 0.0
    stopped_by: Stop | None = None
    example: Grade | None = None

    @property
    def asked(self) -> int:
        """Replies that it gave."""
        return self.judged + self.without_grade

    @property
    def is_hopeless(self) -> bool:
        """Whether it was tried often enough to say that it gives no grades."""
        # What an earlier run could not read comes first in the next one, and must not keep the rest from being judged.
        return not self.judged and not self.has_graded and self.without_grade >= LEAST_TRIED

    @property
    def has_failed(self) -> bool:
        """Whether there was something to judge, and nothing was; a few leftovers of an earlier run apart."""
        is_leftover = self.has_graded and self.stopped_by is None and self.without_grade < LEAST_TRIED
        return bool(self.wanted) and not self.judged and not is_leftover

    def add(self, grade: Grade) -> None:
        """Count a reply."""
        self.spent += grade.usd
        if grade.value is None:
            self.without_grade += 1
            self.example = self.example or grade
        else:
            self.judged += 1

    def allows(self, ahead: float) -> bool:
        """Whether grades that cost so much, USD, at most can be asked for; notes where not."""
        if self.max_usd is None or self.spent + ahead <= self.max_usd:
            return True
        self.stopped_by, self.needed = "budget", ahead
        return False

    def plain(self) -> dict[str, Any]:
        """The account for JSON."""
        return {
            "judge": self.judge, "judged": self.judged, "without_grade": self.without_grade,
            "spent_usd": self.spent, "stopped_by": self.stopped_by,
        }  # fmt: skip

    def problems(self) -> list[str]:
        """What the user must know, a sentence each; where nothing was judged, why."""
        found = [self._unreadable()] if self.without_grade else []
        return [*found, self._short_of_money()] if self.stopped_by == "budget" else found

    def _unreadable(self) -> str:
        from semroute.categories.notes import shortened

        said = "" if self.example is None else shortened(self.example.reply, 160)
        if not self.judged:
            return f"none of {self.asked:,} replies of {self.judge} holds a grade, such as {said}; {self._remedy()}"
        return (
            f"{self.without_grade:,} of {self.asked:,} replies of {self.judge} hold no grade, such as {said}; "
            "the next run asks about them again"
        )

    def _remedy(self) -> str:
        from semroute.learn.labelling.grading import MOST_TOKENS

        if self.example is not None and self.example.is_cut:
            return (
                f"it was cut off at {MOST_TOKENS} tokens: let a model judge that answers without thinking aloud, or "
                "turn its thinking off"
            )
        wanted = '{"grade": 7}' if self.as_json else "the number alone, such as 7"
        hold = (
            ""
            if self.as_json
            else "; where its provider can hold answers to a schema, say so in semroute.yaml (models: "
            f"{{{self.judge}: {{capabilities: [json_schema]}}}})"
        )
        return f"a judge must answer with {wanted}: name another model with --judge{hold}"

    def _short_of_money(self) -> str:
        from semroute.cli.budgets import ended_by

        why = ended_by(self.max_usd or 0.0, self.spent, self.needed, "the longest grades of the next query")
        return f"{why}: {self.wanted - self.asked:,} answers were not judged; give more with --max-usd to go on"
