"""A strategy: long queries go to a model with a long context."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from semroute.strategies import RoutingContext, StrategySetup
from semroute.types import StrategyResult


class Length:
    """Selects the configured model for texts of more than ``chars`` characters."""

    needs_vectors = False

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        chars: int = Field(gt=0)
        use: str

    def __init__(self, options: Options, setup: StrategySetup) -> None:
        self.name, self._options = setup.name, options

    def decide(self, cases: Sequence[RoutingContext]) -> list[StrategyResult]:
        return [self._result(len(case.text)) for case in cases]

    def _result(self, chars: int) -> StrategyResult:
        if chars <= self._options.chars:
            return StrategyResult(self.name, "passed", f"{chars} characters are short")
        return StrategyResult(self.name, "decided", f"{chars} characters are long", (self._options.use,))
