"""Questions that say nothing of their own: "what is this?", "any thoughts?", "fix it".

Beside a pasted text such a question leaves the decision to the text. To a router it looks like small talk.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib.resources import files

VAGUE_ASKS = (
    "What do you think?",
    "Thoughts?",
    "Can you explain this?",
    "Is this right?",
    "please check this",
    "What does it mean?",
    "help me understand this",
    "Summarize it.",
    "Any problems with this?",
    "What should I do?",
    "What is this about?",
    "Please have a look at the text below.",
    "see above",
    "Can you help me with this?",
    "What would you change?",
    "is there anything missing here?",
)
"""Examples of such questions, for encoders."""

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


def is_vague(text: str) -> bool:
    """Tell whether a question has none but the words that any question about any text may have.

    Known are the words of English, German, French and Spanish; a text in another language is not vague.
    """
    words = _WORD.findall(text.casefold().replace("\u2019", "'"))
    return not words or any(known.issuperset(words) for known in _vague_words())


@lru_cache(maxsize=1)
def _vague_words() -> tuple[frozenset[str], ...]:
    found = json.loads(files("semroute.texts").joinpath("vague_words.json").read_text(encoding="utf-8"))
    return tuple(frozenset(words.split()) for words in found.values())
