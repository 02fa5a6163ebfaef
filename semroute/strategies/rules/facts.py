"""What rules ask of a query, each worked out when it is first asked for and only once."""

from __future__ import annotations

from functools import cached_property

from semroute.catalog import estimate_tokens
from semroute.texts import detect_language, folded, looks_like_code
from semroute.texts.conversation import attachment_types, has_turn
from semroute.types import Request

_FOR_WORDS = 50_000
"""Characters at each end of a text in which keywords are looked for, so that a hostile one takes milliseconds."""


class Facts:
    """The facts of one query.

    Args:
        text: the routed text.
        request: all that is asked.
    """

    def __init__(self, text: str, request: Request) -> None:
        self.text = text
        self.request = request

    @property
    def chars(self) -> int:
        """Characters of the routed text."""
        return len(self.text)

    @cached_property
    def tokens(self) -> int:
        """Estimated tokens of messages, tools and schema."""
        return estimate_tokens(self.request)

    @cached_property
    def turns(self) -> int:
        """Turns of the user in the conversation; results of tools that come in his name are none."""
        return sum(map(has_turn, self.request.messages))

    @cached_property
    def folded(self) -> str:
        """The routed text in which equal words are spelt alike; of a long one its ends."""
        text = self.text
        return folded(text if len(text) <= 2 * _FOR_WORDS else f"{text[:_FOR_WORDS]}\n{text[-_FOR_WORDS:]}")

    @cached_property
    def code(self) -> bool:
        """Whether the routed text holds code."""
        return looks_like_code(self.text)

    @cached_property
    def language(self) -> str | None:
        """The routed text's language, an ISO 639-1 code; None where it is not known."""
        return detect_language(self.text)

    @cached_property
    def attachments(self) -> tuple[str, ...]:
        """Types of the parts that are neither text nor a tool's, each once; ``image_url`` for images of any format."""
        return tuple(dict.fromkeys(kind for message in self.request.messages for kind in attachment_types(message)))
