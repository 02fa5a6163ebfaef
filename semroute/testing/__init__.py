"""Fake provider for tests: a local HTTP server with scripted replies.

    from semroute.testing import FakeProvider, fail, hang, stall_after

    with FakeProvider() as provider:
        provider.script(fail(429, retry_after=2), hang())     # the first two requests; later ones get an echo
        ...                                                   # call provider.base_url
        assert provider.requests[0].body["model"] == "gpt-test"
        provider.always(fail(500))                            # all of them fail, until always(None)
        provider.set_speed(first_token_s=0.2, token_s=0.01)

It speaks four wire formats on one port, and every scripted reply renders itself in that of its request: OpenAI chat
completions and Responses (and embeddings) at :attr:`~FakeProvider.base_url`, Anthropic Messages at
:attr:`~FakeProvider.anthropic_url`, Gemini at :attr:`~FakeProvider.gemini_url`; all of them streamed or not.

``python -m semroute.testing --port 8099`` runs one at the prompt, which other processes control by ``POST /_control``
(:mod:`semroute.testing.server`). Standard library only.
"""

from __future__ import annotations

from semroute.testing.answers import RecordedRequest
from semroute.testing.replies import (
    Answer,
    Call,
    Delivery,
    Failure,
    Reply,
    answer,
    content_filter,
    context_length,
    drip,
    empty_choices,
    error_event,
    error_in_200,
    fail,
    hang,
    invalid_encrypted_content,
    malformed,
    malformed_event,
    no_end_marker,
    no_usage,
    number,
    quota_exhausted,
    refusal,
    reset_after,
    reset_at_end,
    split_sse,
    stall_after,
    stall_at_end,
    truncated,
)
from semroute.testing.server import FakeProvider

__all__ = [
    "Answer",
    "Call",
    "Delivery",
    "Failure",
    "FakeProvider",
    "RecordedRequest",
    "Reply",
    "answer",
    "content_filter",
    "context_length",
    "drip",
    "empty_choices",
    "error_event",
    "error_in_200",
    "fail",
    "hang",
    "invalid_encrypted_content",
    "malformed",
    "malformed_event",
    "no_end_marker",
    "no_usage",
    "number",
    "quota_exhausted",
    "refusal",
    "reset_after",
    "reset_at_end",
    "split_sse",
    "stall_after",
    "stall_at_end",
    "truncated",
]
