"""A policy on trial beside the one that serves: watched first, then with a share of the queries, then all, or none.

Both decide on every query. Which of them is followed is drawn by a digest of the query's text, so that the same query
always goes the same way, and a larger share only adds queries. What the other one would have done stands among the
decision's opinions, under the name "trial".
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from semroute.config import Config
from semroute.config.overlay import overlaid
from semroute.errors import SemrouteError
from semroute.router.answering import Answering
from semroute.strategies import Chain
from semroute.strategies.chain import Deciding
from semroute.types import TRIAL, Caller, Decision, Opinion, Request

LOOK_S = 1.0
"""How often the file with the share is looked at."""

log = logging.getLogger("semroute")


class LiveShare:
    """The share that a trial has at this moment.

    Args:
        path: what ``semroute trial share`` writes; where it is not there, ``default`` counts.
        default: the configuration's.
    """

    def __init__(self, path: Path, default: float) -> None:
        self._path, self._default = path, default
        self._known, self._looked = default, -LOOK_S

    def now(self) -> float:
        """The share; a file that cannot be read leaves it as it was."""
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            try:
                self._known = read_share(self._path, self._default)
            except (OSError, ValueError) as error:
                log.warning("%s: cannot be read (%s); the trial keeps its share of %g", self._path, error, self._known)
        return self._known


def read_share(path: Path, default: float) -> float:
    """The share that a file tells; ``default`` where there is none.

    Raises:
        OSError, ValueError: it cannot be read, or tells no share.
    """
    try:
        told = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return default
    share = told.get("share") if isinstance(told, dict) else None
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError("it tells no share from 0 to 1")
    return float(share)


class TrialRun:
    """The policy on trial.

    Args:
        chain: its strategies.
        answering: how its decisions are answered; it may have another cascade.
        share: of the queries that it decides.
    """

    def __init__(self, chain: Chain, answering: Answering, share: LiveShare) -> None:
        self._chain, self.answering, self._share = chain, answering, share

    @property
    def asks(self) -> bool:
        """Whether one of its strategies asks a model."""
        return self._chain.asks

    def decide(
        self, deciding: Deciding, texts: Sequence[str], requests: Sequence[Request], caller: Caller | None
    ) -> Deciding:
        """The decisions that are followed, each with what the other policy says.

        A trial that fails decides nothing, and says so.
        """
        served = yield from deciding
        share = self._share.now()
        try:
            tried = yield from self._chain.decide(texts, requests, caller)
        except SemrouteError as error:
            log.warning("the policy on trial failed: %s", error)
            failed = Opinion(TRIAL, "passed", f"it failed: {error}")
            return [replace(decision, opinions=(*decision.opinions, failed)) for decision in served]
        return [
            followed(new, old, by_trial=True) if place_of(text) < share else followed(old, new, by_trial=False)
            for text, old, new in zip(texts, served, tried, strict=True)
        ]


def followed(decision: Decision, other: Decision, *, by_trial: bool) -> Decision:
    """A decision with the other policy's as an opinion; what both took is counted."""
    said = f"{other.model}: {other.reason}"
    opinion = Opinion(
        strategy=TRIAL,
        kind="decided" if by_trial else "passed",
        reason=f"the policy on trial decides; the other one says {said}"
        if by_trial
        else f"only watched; it says {said}",
        candidates=other.candidates,
        category=other.category,
        elapsed_ms=other.elapsed_ms,
        attempts=other.attempts,
    )
    return replace(
        decision,
        opinions=(*decision.opinions, opinion),
        elapsed_ms=decision.elapsed_ms + other.elapsed_ms,
        steps_ms={**decision.steps_ms, TRIAL: other.elapsed_ms},
    )


def is_by_trial(decision: Decision) -> bool:
    """Whether the policy on trial has decided."""
    return any(opinion.strategy == TRIAL and opinion.kind == "decided" for opinion in decision.opinions)


def place_of(text: str) -> float:
    """Where a text stands between 0 and 1; even over texts, and the same for the same text everywhere."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) / 2**32


def tried_config(config: Config) -> Config | None:
    """The configuration of the policy on trial; None where there is none.

    Raises:
        ConfigError: its file cannot be used.
    """
    return None if config.trial.policy is None else overlaid(config, config.trial.policy)
