"""Text as tokenizers and wire formats can take it: valid Unicode of bounded length.

Every encoder passes its texts through here, so that the same text means the same to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

CHARACTERS_PER_TOKEN = 16
"""Characters kept from each end of a long text for every token of the limit; English has about 4 to a token."""


def clean(text: str) -> str:
    """Make ``text`` valid Unicode without NUL: surrogate pairs are joined, lone surrogates become U+FFFD."""
    if text.isascii():
        return text.replace("\0", " ")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", " ")


def clip(text: str, max_tokens: int) -> str:
    """Drop the middle of a text that is certainly longer than ``max_tokens``, before the costly part.

    A tokenizer's time grows with the text; only its first and last ``max_tokens // 2`` tokens are ever used.
    """
    limit = 2 * CHARACTERS_PER_TOKEN * max_tokens
    return text if len(text) <= limit else clip_characters(text.strip(), limit)


def prepare(texts: Sequence[str], max_tokens: int) -> list[str]:
    """Clip and clean ``texts`` for a tokenizer.

    Raises:
        TypeError: ``texts`` is one string, whose characters would be taken for texts.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a sequence of strings, not one string")
    return [clean(clip(text, max_tokens)) for text in texts]


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
