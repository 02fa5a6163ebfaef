"""A check: an answer must not hold certain words."""

from __future__ import annotations

from pydantic import BaseModel

from semroute.cascade.checks import CheckInput
from semroute.types import CheckResult


class Polite:
    """Rejects answers with one of the words."""

    name = "polite"
    wants_logprobs = False

    class Options(BaseModel):
        words: list[str] = ["nonsense"]

    def __init__(self, options: Options) -> None:
        self._words = [word.casefold() for word in options.words]

    async def judge(self, answered: CheckInput) -> CheckResult:
        text = answered.completion.text.casefold()
        found = [word for word in self._words if word in text]
        return CheckResult(self.name, not found, f"rude: {', '.join(found)}" if found else "polite")
