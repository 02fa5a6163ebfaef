"""When the beginning of an answer is clear enough to be given out before the answer is whole."""

from __future__ import annotations

from collections.abc import Sequence

from semroute.cascade.confidence import confidence
from semroute.cascade.refusals import refusal_in
from semroute.types import Delta


def can_stream_early(held: Sequence[Delta], after_tokens: int | None, least: float | None) -> bool:
    """Whether the first tokens are so confident that the whole answer will hardly be rejected.

    There is no way back after this, so the bar is half-way between the threshold and certainty; and it does not begin
    as a refusal does.

    Args:
        held: pieces so far.
        after_tokens: tokens that must have come; None: never.
        least: confidence from which a whole answer is accepted; None: never.
    """
    if after_tokens is None or least is None:
        return False
    logprobs = [token for piece in held for token in piece.logprobs]
    if len(logprobs) < after_tokens:
        return False
    try:
        if confidence(logprobs) < (1.0 + least) / 2.0:
            return False
    except (ValueError, OverflowError):  # what is no number is not clear
        return False
    return refusal_in("".join(piece.text for piece in held)) is None
