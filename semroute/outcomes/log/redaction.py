"""What of a query's text is kept: all, a keyed hash, or nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RedactionPolicy:
    """What is kept.

    Where the text itself is not, what may repeat it is not kept either: a provider's error message quotes what it
    refuses.

    Attributes:
        text: of queries.
        answers: whether answers are kept.
        key: of the hashes. Queries are short and many are guessed: a hash without a key is looked up in a list of
            likely ones. The key lies in the database, so that replicas agree; it guards what is exported without it.
    """

    text: Literal["full", "hashed", "none"] = "full"
    answers: bool = False
    key: bytes = b""

    def query(self, text: str) -> tuple[str | None, str | None]:
        """Text and hash as they are stored."""
        if self.text == "full":
            return storable(text), None
        if self.text == "hashed":
            return None, hmac.new(self.key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return None, None

    def error(self, message: str | None) -> str | None:
        """An error's message, where it may be kept."""
        return storable(message) if message is not None and self.text == "full" else None

    def reason(self, reason: str) -> str:
        """A reason; what follows a colon may be a provider's message."""
        return storable(reason if self.text == "full" else reason.partition(":")[0])

    def answer(self, text: str | None) -> str | None:
        """An answer, where they are kept."""
        return storable(text) if text is not None and self.answers else None

    def logprobs(self, values: Sequence[float]) -> str | None:
        """Log probabilities of an answer's tokens as JSON, to four decimals, where answers are kept."""
        return json.dumps([round(value, 4) for value in values]) if values and self.answers else None


def storable(text: str) -> str:
    """The text as both databases take it: NUL (refused by PostgreSQL) and half characters become U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
