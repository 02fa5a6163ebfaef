"""What a family of policies is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from semroute.learn.policy.part import PolicyData, PolicyOutcomes

POINTS = 41
"""Values of quality that are tried along a curve."""

Config = Mapping[str, Any]


class Family(Protocol):
    """A kind of policy with one parameter or several."""

    @property
    def asks_classifier(self) -> bool:
        """Whether the configuration names the classifier of queries."""
        ...

    @property
    def name(self) -> str:
        """For people."""
        ...

    def tried(self, tuning: PolicyData) -> Iterator[tuple[Any, PolicyOutcomes]]:
        """Every parameter with what it gives on the tuning rows, each row as if it had not been tuned on."""
        ...

    def play(self, parameter: Any, part: PolicyData) -> PolicyOutcomes:
        """What a parameter gives on some rows."""
        ...

    def config(self, parameter: Any) -> Config:
        """Sections of ``semroute.yaml``; the cascade always among them, lest one from before be climbed still."""
        ...

    def checks(self, parameter: Any) -> frozenset[int]:
        """Numbers of the models whose answers are checked, by classifiers that the configuration names."""
        ...
