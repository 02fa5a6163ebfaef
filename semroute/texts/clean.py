"""Text as tokenizers and wire formats can take it: valid Unicode of bounded length.

Every encoder passes its texts through here, so that the same text means the same to all of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

CHARACTERS_PER_TOKEN = 16
"""Characters kept from each end of a long text for every token of the limit; English has about 4 to a token."""

MAX_MARKS = 30
"""Combining marks kept in a row, as the stream-safe text format has it (Unicode Standard Annex 15, section 13)."""

_SHORT = 512
"""Characters up to which putting combining marks in order takes less time than looking for long runs of them."""

_BLANKS = frozenset("\u2800\u115f\u1160\u3164\uffa0\ufffd")
"""Characters of other categories that show nothing: the blank of Braille, the fillers of Hangul, and U+FFFD, which
stands for what was no character."""

# NFKC takes these apart, but the vocabularies of encoders have them whole: Thai and Lao AM.
_KEPT_WHOLE = (("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3"))


def clean(text: str) -> str:
    """Make ``text`` valid Unicode without NUL: surrogate pairs are joined, lone surrogates become U+FFFD."""
    if text.isascii():
        return text.replace("\0", " ")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", " ")


def nfkc(text: str) -> str:
    """Return ``text`` in Unicode's normal form KC, in linear time.

    :func:`unicodedata.normalize` sorts the combining marks of a letter by insertion, which takes seconds for the tens
    of thousands that a hostile text has; all but the first :data:`MAX_MARKS` of a run are dropped before.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text if len(text) <= _SHORT else _bounded_marks(text))


def _bounded_marks(text: str) -> str:
    kept: list[str] = []
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)


def encodable(text: str) -> str:
    """Return ``text`` as encoders are given it: valid, and compatibility characters as the plain ones (NFKC).

    So full-width letters, ligatures of a PDF and mathematical letters mean what the plain text means. ASCII stays as it
    is, but for NUL.
    """
    cleaned = clean(text)
    if cleaned.isascii():
        return cleaned
    plain = nfkc(cleaned)
    for parts, whole in _KEPT_WHOLE:
        plain = plain.replace(parts, whole)
    return plain


def is_blank(text: str) -> bool:
    """Tell whether ``text`` shows nothing: spaces, control and format characters, marks without a letter.

    Examples: the empty string, a zero-width space, a soft hyphen, a byte order mark, half of a surrogate pair.
    """
    if text.isascii():
        return not any(" " < character < "\x7f" for character in text)
    return all(map(_shows_nothing, clean(text)))


def _shows_nothing(character: str) -> bool:
    category = unicodedata.category(character)
    if category[0] in "ZM" or category in ("Cc", "Cf", "Cs") or character in _BLANKS:
        return True
    # Noncharacters. What else is unassigned may be assigned in a newer Unicode: an emoji, say.
    return category == "Cn" and (ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF)


def clip(text: str, max_tokens: int) -> str:
    """Drop the middle of a text that is certainly longer than ``max_tokens``, before the costly part.

    A tokenizer's time grows with the text; only its first and last ``max_tokens // 2`` tokens are ever used.
    """
    limit = 2 * CHARACTERS_PER_TOKEN * max_tokens
    return text if len(text) <= limit else clip_characters(text.strip(), limit)


def prepare(texts: Sequence[str], max_tokens: int) -> list[str]:
    """Clip and clean ``texts`` for a tokenizer, and normalise them (NFKC).

    Raises:
        TypeError: ``texts`` is one string, whose characters would be taken for texts.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a sequence of strings, not one string")
    return [encodable(clip(text, max_tokens)) for text in texts]


def head_and_tail(tokens: Sequence[int], max_tokens: int) -> Sequence[int]:
    """The first and last halves of ``max_tokens`` tokens; special tokens at both ends are thereby kept."""
    if len(tokens) <= max_tokens:
        return tokens
    tail = max_tokens // 2
    return [*tokens[: max_tokens - tail], *tokens[len(tokens) - tail :]]


def head_and_tail_text(text: str, offsets: Sequence[tuple[int, int]], max_tokens: int) -> str:
    """``text`` without the tokens in the middle that exceed ``max_tokens``.

    Args:
        text: the text.
        offsets: begin and end of every token in it, in characters.
        max_tokens: tokens kept, half from each end.
    """
    if len(offsets) <= max_tokens:
        return text
    tail = max_tokens // 2
    head = text[: offsets[max_tokens - tail - 1][1]]
    return f"{head} {text[offsets[-tail][0] :]}" if tail else head


def clip_characters(text: str, limit: int) -> str:
    """The first and last halves of ``limit`` characters of a longer text, where no tokenizer can count tokens."""
    return text if len(text) <= limit else f"{text[: limit - limit // 2]} {text[len(text) - limit // 2 :]}"
