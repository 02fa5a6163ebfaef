"""The random sample among the queries that are judged, which alone tells of all queries.

Every query has a number of its own, as if drawn at random, that neither its difficulty nor what is judged before can
change (permanent random numbers: Ohlsson, "Coordination of Samples Using Permanent Random Numbers", in Business Survey
Methods, 1995). Those with the smallest numbers are the sample, as far as judging has come. A query that was judged for
being hard is among them where its number is: a sample that leaves it out holds too many easy ones. One that a person
skips lacks, whatever its number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from semroute.learn.labelling.order import RANDOM
from semroute.texts.digests import digest_of, hash_fraction

Answer = tuple[str, str, str]
"""Query, task and model."""


def draw(query: str, task: str, seed: int) -> float:
    """The number of a query, 0 to below 1; the same whenever, and beside whichever other queries, it is asked for."""
    # Lengths keep "a" of task "bc" apart from "ab" of task "c".
    return hash_fraction(f"{seed} {len(task)} {task}{query}")


def fingerprint(queries: Iterable[tuple[str, str, Sequence[str]]]) -> str:
    """What a sample is drawn from, as 16 hex digits: queries, tasks and the models that answered, in any order."""
    return digest_of(sorted(json.dumps([query, task, sorted(models)]) for query, task, models in queries))[:16]


def random_sample(rows: Sequence[Mapping[str, Any]]) -> frozenset[Answer] | None:
    """The judged answers that are in the random sample.

    These are the answers to queries whose ``draw`` is at most the largest of those that were ``picked`` at random,
    whatever they were picked for themselves. What was picked before the outcomes grew says nothing of how far the
    order of those that are there now was followed: only rows with the last ``drawn_from`` tell that.

    Args:
        rows: what a person judged, as ``semroute label`` writes it.

    Returns:
        None where it cannot be told, since a row lacks its draw; empty where none was picked at random yet.
    """
    reached = -1.0
    for row in rows:
        number = row.get("draw")
        if isinstance(number, bool) or not isinstance(number, int | float) or not isinstance(row.get("outcomes"), dict):
            return None
        if row.get("picked") == RANDOM and row.get("drawn_from") == rows[-1].get("drawn_from"):
            reached = max(reached, number)
    return frozenset(
        (str(row.get("query")), str(row.get("task") or ""), model)
        for row in rows
        if row["draw"] <= reached
        for model in row["outcomes"]
    )
