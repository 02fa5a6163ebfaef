"""What users say of answers, after the fact."""

from __future__ import annotations

import time

from sqlalchemy import Engine, select

from semroute.errors import InputError
from semroute.outcomes.log.privacy import storable
from semroute.outcomes.log.schema import feedback, outcomes

LAST = "last"
"""Stands for the newest outcome."""
_MOST_SHOWN = 5


def judge(engine: Engine, name: str, value: float, comment: str | None = None) -> str:
    """Keep a judgement; earlier ones of the outcome stay, and the latest counts.

    Args:
        engine: the database.
        name: an outcome's id, a beginning of it that only one has, or ``last``.
        value: 0 (bad) to 1 (good).
        comment: words of the user.

    Returns:
        The outcome's id.

    Raises:
        InputError: the value is out of range, or no outcome, or more than one, is meant.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"a judgement is good, bad, or a number from 0 to 1, and not {type(value).__name__}")
    if not isinstance(name, str) or not isinstance(comment, str | None):
        raise InputError("the name of an outcome and a comment on it are text")
    if not 0.0 <= value <= 1.0:
        raise InputError(f"a judgement is good, bad, or a number from 0 to 1, and not {value:g}")
    found = find(engine, name)
    with engine.begin() as connection:
        told = None if comment is None else storable(comment)
        connection.execute(feedback.insert().values(outcome_id=found, at=time.time(), value=value, comment=told))
    return found


def find(engine: Engine, name: str) -> str:
    """The id of the outcome that is meant.

    Raises:
        InputError: none is, or more than one.
    """
    if name == LAST:
        query = select(outcomes.c.id).order_by(outcomes.c.at.desc(), outcomes.c.id.desc()).limit(1)
    else:
        start = name.strip().lower().replace("-", "")
        query = select(outcomes.c.id).where(outcomes.c.id.startswith(start, autoescape=True)).limit(_MOST_SHOWN)
        if not start:
            raise InputError("which outcome? give its id, the beginning of it, or last")
    with engine.connect() as connection:
        found = list(connection.execute(query).scalars())
    if not found:
        raise InputError("the log is empty" if name == LAST else f'no outcome begins with "{name[:40]}"')
    if len(found) > 1:
        raise InputError(f"more than one outcome begins with that: {', '.join(found)}; give more of it")
    return str(found[0])
