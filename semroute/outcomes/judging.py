"""Answers that nobody has judged: what is wrong with them is not that they are too few."""

from __future__ import annotations

import numpy as np

from semroute.errors import InputError
from semroute.outcomes.table import OutcomeTable


def check_judged(table: OutcomeTable) -> None:
    """Refuse a table in which no quality is known at all, as ``semroute collect`` writes it.

    Raises:
        InputError: there are queries, and the quality of no answer is known.
    """
    if len(table) and not np.isfinite(table.quality).any():
        raise InputError(
            f"the outcomes of {len(table):,} queries hold no quality: nobody has judged the answers; semroute label "
            "does that, by hand or with --judge MODEL"
        )


def judging_remedy(table: OutcomeTable) -> str:
    """What to do about answers without a quality, the beginning of a remedy that goes on; empty for none.

    An answer is known to be there by its text, its tokens, its cost or its latency.
    """
    told = np.isfinite([table.cost, table.input_tokens, table.output_tokens, table.latency]).any(axis=0)
    if table.responses is not None:
        texts = [[text is not None for text in row] for row in table.responses]
        told |= np.array(texts, np.bool_).reshape(told.shape)
    count = int((told & ~np.isfinite(table.quality)).sum())
    return f"judge the {count:,} answers that have no quality yet (semroute label), " if count else ""
