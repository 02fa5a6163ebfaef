"""Whole words in a text, whatever their case and script."""

from __future__ import annotations

import unicodedata

# Scripts that put no space between words: a keyword in one of them may stand anywhere. First and last code point of
# blocks of the Unicode standard (https://www.unicode.org/Public/UNIDATA/Blocks.txt).
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x9FFF),  # CJK ideographs
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0x20000, 0x3FFFF),  # CJK ideographs, extensions
)


def folded(text: str) -> str:
    """``text`` with one spelling for what counts as equal: case, composed characters, full width, runs of space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def has_words(text: str, words: str) -> bool:
    """Whether ``words`` stand in ``text`` and are not parts of longer words; both as :func:`folded` gives them.

    Linear in the text. A mark at the end of ``words`` ("c++") needs no boundary, nor does a script that has no spaces.
    """
    if not words:
        return False
    start = text.find(words)
    while start >= 0:
        end = start + len(words)
        if not (_joined(text, start) or _joined(text, end)):
            return True
        start = text.find(words, start + 1)
    return False


def _joined(text: str, place: int) -> bool:
    """Whether the characters on both sides of ``place`` belong to one word."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if _is_spaceless(before) or _is_spaceless(after):
        return False
    return _in_word(before) and _in_word(after)


def _in_word(character: str) -> bool:
    # Combining marks are parts of words: Devanagari writes its vowels with them.
    return character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")


def _is_spaceless(character: str) -> bool:
    code = ord(character)
    return code >= _WITHOUT_SPACES[0][0] and any(first <= code <= last for first, last in _WITHOUT_SPACES)
