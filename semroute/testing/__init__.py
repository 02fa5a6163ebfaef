"""A provider to test against: a real HTTP server on this machine that answers, and fails, as it is told.

    from semroute.testing import FakeProvider, fail, hang

    with FakeProvider() as provider:
        provider.script(fail(429, retry_after=2), hang())     # the first two requests; later ones get an echo
        ...                                                   # call provider.base_url
        assert provider.requests[0].body["model"] == "gpt-test"

``python -m semroute.testing --port 8099`` runs one at the prompt. Standard library only.
"""

from __future__ import annotations

from semroute.testing.replies import Reply, answer, empty_choices, error_in_200, fail, hang, malformed
from semroute.testing.server import FakeProvider, RecordedRequest

__all__ = [
    "FakeProvider",
    "RecordedRequest",
    "Reply",
    "answer",
    "empty_choices",
    "error_in_200",
    "fail",
    "hang",
    "malformed",
]
