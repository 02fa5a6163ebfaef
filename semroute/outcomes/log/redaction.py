"""Redaction of logged text: full, keyed hash, or none."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RedactionPolicy:
    """Redaction policy of queries, answers and error messages.

    Text that may repeat a redacted query is redacted too: a provider's error message quotes what it refuses.

    Attributes:
        text: redaction of queries.
        answers: True stores answers.
        key: key of the hashes. Queries are short and can be guessed: a hash without a key is looked up in a list of
            likely ones. The key is in the database, so that replicas agree; it protects exports without it.
    """

    text: Literal["full", "hashed", "none"] = "full"
    answers: bool = False
    key: bytes = b""

    def query(self, text: str) -> tuple[str | None, str | None]:
        """Return text and hash as they are stored."""
        if self.text == "full":
            return storable(text), None
        if self.text == "hashed":
            return None, hmac.new(self.key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return None, None

    def error(self, message: str | None) -> str | None:
        """Return an error's message, None if it is redacted."""
        return storable(message) if message is not None and self.text == "full" else None

    def reason(self, reason: str) -> str:
        """Return a reason; redact after a colon, where a provider may be quoted."""
        return storable(reason if self.text == "full" else reason.partition(":")[0])

    def answer(self, text: str | None) -> str | None:
        """Return an answer, None if answers are not stored."""
        return storable(text) if text is not None and self.answers else None

    def logprobs(self, values: Sequence[float]) -> str | None:
        """Return log probabilities as JSON to four decimals; None if redacted.

        They are stored with answers only.
        """
        return json.dumps([round(value, 4) for value in values]) if values and self.answers else None


def storable(text: str) -> str:
    """Return the text as both databases accept it.

    NUL (refused by PostgreSQL) and lone surrogates become U+FFFD.
    """
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
