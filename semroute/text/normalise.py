"""Text hashing, cleaning, clipping and matching, reproducible anywhere."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence


def digest_of(texts: Iterable[str], *extra: bytes) -> str:
    """Return the SHA-256, in hex, of texts and further bytes, in order.

    Different lists never have the same input.
    """
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    for raw in extra:
        digest.update(raw)
    return digest.hexdigest()


def hash_fraction(text: str) -> float:
    """Hash a text to [0, 1), evenly, so that similar texts differ.

    It is no checksum: pairs of texts that differ in the same words have ones that differ in the same bits, and samples
    that are drawn by them would be correlated.
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    # 53 bits are what a float holds: with more of them it may be rounded to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


# Text for tokenizers and wire formats: valid Unicode of bounded length.
#
# Every encoder passes its texts through here, so that all encode the same text.

CHARACTERS_PER_TOKEN = 16
"""Characters kept from each end of a long text for every token of the limit; English has about 4 to a token."""

MAX_MARKS = 30
"""Combining marks kept in a row, as in the stream-safe text format (Unicode Standard Annex 15, section 13)."""

_SHORT = 512
"""Length up to which sorting combining marks takes less time than searching for long runs of them, characters."""

_BLANKS = frozenset("\u2800\u115f\u1160\u3164\uffa0\ufffd")
"""Blank characters of other categories: the blank of Braille, the fillers of Hangul, and U+FFFD, which replaces
invalid characters."""

# NFKC decomposes these, but the vocabularies of encoders have them whole: Thai and Lao AM.
_KEPT_WHOLE = (("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3"))


def clean(text: str) -> str:
    """Make ``text`` valid Unicode without NUL.

    Surrogate pairs are joined, lone surrogates become U+FFFD.
    """
    if text.isascii():
        return text.replace("\0", " ")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", " ")


def nfkc(text: str) -> str:
    """Normalise ``text`` to Unicode's form NFKC, in linear time.

    :func:`unicodedata.normalize` sorts the combining marks of a letter by insertion, which takes seconds for the tens
    of thousands that a hostile text has; all but the first :data:`MAX_MARKS` of a run are dropped before.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text if len(text) <= _SHORT else _bounded_marks(text))


def _bounded_marks(text: str) -> str:
    characters: list[str] = []
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run <= MAX_MARKS:
            characters.append(character)
    return "".join(characters)


def encodable(text: str) -> str:
    """Normalise ``text`` for encoders: valid Unicode, in NFKC.

    Full-width letters, ligatures of a PDF and mathematical letters become plain ones. ASCII stays as it
    is, but for NUL.
    """
    text_cleaned = clean(text)
    if text_cleaned.isascii():
        return text_cleaned
    normalized = nfkc(text_cleaned)
    for parts, composed in _KEPT_WHOLE:
        normalized = normalized.replace(parts, composed)
    return normalized


def is_blank(text: str) -> bool:
    """Return True if ``text`` has no visible character.

    Spaces, control and format characters, and marks without a letter are not visible.

    Examples: the empty string, a zero-width space, a soft hyphen, a byte order mark, half of a surrogate pair.
    """
    if text.isascii():
        return not any(" " < character < "\x7f" for character in text)
    return all(map(_shows_nothing, clean(text)))


def _shows_nothing(character: str) -> bool:
    category = unicodedata.category(character)
    if category[0] in "ZM" or category in ("Cc", "Cf", "Cs") or character in _BLANKS:
        return True
    # Noncharacters. Other unassigned ones may be assigned in a newer Unicode: an emoji, say.
    return category == "Cn" and (ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF)


def clip(text: str, max_tokens: int) -> str:
    """Drop the middle of a text that certainly exceeds ``max_tokens``.

    It is done before tokenizing.

    A tokenizer's time grows with the text; only its first and last ``max_tokens // 2`` tokens are ever used.
    """
    limit = 2 * CHARACTERS_PER_TOKEN * max_tokens
    return text if len(text) <= limit else clip_characters(text.strip(), limit)


def prepare(texts: Sequence[str], max_tokens: int) -> list[str]:
    """Clip and clean ``texts`` for a tokenizer, and normalise them (NFKC).

    Raises:
        TypeError: ``texts`` is one string, whose characters would count as texts.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a sequence of strings, not one string")
    return [encodable(clip(text, max_tokens)) for text in texts]


def head_and_tail(tokens: Sequence[int], max_tokens: int) -> Sequence[int]:
    """Return the first and last halves of ``max_tokens`` tokens.

    Special tokens at both ends are thereby kept.
    """
    if len(tokens) <= max_tokens:
        return tokens
    tail = max_tokens // 2
    return [*tokens[: max_tokens - tail], *tokens[len(tokens) - tail :]]


def head_and_tail_text(text: str, offsets: Sequence[tuple[int, int]], max_tokens: int) -> str:
    """Drop the middle of ``text`` whose tokens exceed ``max_tokens``.

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
    """Drop the middle of a text longer than ``limit`` characters.

    For texts whose tokens cannot be counted.
    """
    return text if len(text) <= limit else f"{text[: limit - limit // 2]} {text[len(text) - limit // 2 :]}"


# Matching of whole words, in any case, script and typography.

# First code points of blocks of the Unicode standard (https://www.unicode.org/Public/UNIDATA/Blocks.txt), and the
# script that matters here: "" for scripts that put spaces between words, and whose words run together with digits and
# Latin letters; "-" for those that put no space between words; a name for those in which affixes are joined to words of
# other scripts ("python을", "на python-е", "الـAPI").
_SCRIPTS = (
    (0x0000, ""),
    (0x0400, "Cyrillic"),
    (0x0530, "Armenian"),
    (0x0590, "Hebrew"),
    (0x0600, "Arabic"),
    (0x0700, ""),
    (0x0750, "Arabic"),
    (0x0780, ""),
    (0x08A0, "Arabic"),
    (0x0900, "Devanagari"),
    (0x0980, "Bengali"),
    (0x0A00, "Gurmukhi"),
    (0x0A80, "Gujarati"),
    (0x0B00, "Oriya"),
    (0x0B80, "Tamil"),
    (0x0C00, "Telugu"),
    (0x0C80, "Kannada"),
    (0x0D00, "Malayalam"),
    (0x0D80, "Sinhala"),
    (0x0E00, "-"),  # Thai, Lao
    (0x0F00, ""),
    (0x1000, "-"),  # Myanmar
    (0x10A0, "Georgian"),
    (0x1100, "Hangul"),
    (0x1200, ""),
    (0x1780, "-"),  # Khmer
    (0x1800, ""),
    (0x19E0, "-"),  # Khmer symbols
    (0x1A00, ""),
    (0x3040, "-"),  # Hiragana, Katakana, Bopomofo
    (0x3130, "Hangul"),
    (0x3190, "-"),  # Katakana, extensions; CJK ideographs
    (0xA000, ""),
    (0xA960, "Hangul"),
    (0xA980, ""),
    (0xA9E0, "-"),  # Myanmar, extensions
    (0xAA00, ""),
    (0xAA60, "-"),
    (0xAA80, ""),
    (0xAC00, "Hangul"),
    (0xD800, ""),
    (0xF900, "-"),  # CJK compatibility ideographs
    (0xFB00, ""),
    (0x1AFF0, "-"),  # Kana, extensions
    (0x1B170, ""),
    (0x20000, "-"),  # CJK ideographs, extensions
    (0x40000, ""),
)
_FIRST = tuple(first for first, _ in _SCRIPTS)

# Typographic marks and their equivalents on a keyboard. Unicode's own normal forms keep them apart.
_TYPOGRAPHIC = (
    ("'", "`\u00b4\u02b9\u02bb\u02bc\u02bd\u02c8\u055a\u05f3\u2018\u2019\u201a\u201b\u2032\u2035\ua78c"),
    ('"', "\u00ab\u00bb\u05f4\u201c\u201d\u201e\u201f\u2033\u2036\u2039\u203a\u301d\u301e\u301f"),
    ("-", "\u02d7\u058a\u05be\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2e3a\u2e3b\ufe58\ufe63\uff0d"),
    ("/", "\u2044\u2215"),
    ("i", "\u0131"),  # "ISPARTA" is "isparta" to every language but Turkish, and "ısparta" to that
)
# Invisible characters: where a line may break or not, direction, joining, variants of a sign; Arabic's stretch.
_HIDDEN = (
    "\u00ad\u034f\u0640\u061c\u180b\u180c\u180d\u180e\u200b\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufe0e\ufe0f\ufeff"
)
_PLAIN = {ord(mark): plain for plain, marks in _TYPOGRAPHIC for mark in marks} | dict.fromkeys(map(ord, _HIDDEN))

# Korean particles and the forms of "to be" and "to do" that are joined to a noun. A word of one syllable is only found
# before these: "차" is no part of "차이".
_PARTICLES = re.compile(
    "들?(?:은|는|이|가|을|를|의|에|에서|에게|에게서|께|께서|한테|와|과|랑|이랑|하고|로|으로|로서|로써|도|만|까지|부터|마다|보다|처럼"
    "|같이|밖에|조차|마저|나|이나|든지|이든지|라도|이라도|야|이야|요|이요|이다|입니다|입니까|이에요|예요|인데|이고|이며|인|님"
    "|라고|이라고|라는|이라는|란|이란|해|해요|해서|하다|하는|한|할|합니다|했다)?(?:는|은|도|만|까지|요|의)?"
)
_MAX_SUFFIX = 12
"""Syllables after a word of one syllable that are matched with particles."""


def folded(text: str) -> str:
    """Fold case, width, typography and space of ``text``.

    Case, also that of the Turkish i; composed characters and full width (NFKC); typographic apostrophes, quotation
    marks and hyphens; characters that do not show; runs of space.
    """
    if text.isascii():
        return " ".join(text.replace("`", "'").casefold().split())
    # Before NFKC, which makes a space and a combining accent of a free-standing one, and after, for what it adds.
    normalized = nfkc(text.translate(_PLAIN)).translate(_PLAIN).casefold().replace("i\u0307", "i")
    return " ".join(nfkc(normalized).split())


def has_words(text: str, words: str) -> bool:
    """Return True if ``words`` occur in ``text`` as whole words.

    Both must be folded (:func:`folded`).

    Linear in the text. Word boundaries depend on the script: a mark at the end of ``words`` ("c++") needs none, nor
    does a script that has no spaces (Thai, Chinese, Japanese, ...); a Latin word ends where another script begins
    ("python을"), and a Korean word before its particles and endings ("환불해").
    """
    if not words:
        return False
    start = text.find(words)
    while start >= 0:
        if _joined(text, start):
            start = _next_boundary(text, start + 1)
        elif _ends(text, start, start + len(words)):
            return True
        else:
            start += 1
        start = text.find(words, start)
    return False


def _next_boundary(text: str, position: int) -> int:
    # No word can begin before it, so that the words need not be compared at each letter of a long run of letters.
    while _joined(text, position):
        position += 1
    return position


def _ends(text: str, start: int, end: int) -> bool:
    """Return True if the word at ``start`` in ``text`` ends at ``end``."""
    if not _joined(text, end):
        return True
    if _script(text[end - 1]) != "Hangul" or _script(text[end]) != "Hangul":
        return False
    if end - start > 1 and _script(text[end - 2]) == "Hangul":
        return True
    last = end
    while last < min(len(text), end + _MAX_SUFFIX) and _script(text[last]) == "Hangul":
        last += 1
    return _PARTICLES.fullmatch(text, end, last) is not None


def _joined(text: str, position: int) -> bool:
    """Return True if the characters around ``position`` belong to one word."""
    if not 0 < position < len(text):
        return False
    previous, following = text[position - 1], text[position]
    if _is_mark(following):  # a letter is not parted from its vowel or accent, in any script
        return _in_word(previous)
    if not (_in_word(previous) and _in_word(following)):
        return False
    script = _script(following)
    if script == "-" or _script(previous) == "-":
        return False
    return _is_mark(previous) or script == _script(previous)


def _in_word(character: str) -> bool:
    # Combining marks are parts of words: Devanagari writes its vowels with them.
    return character.isalnum() or character == "_" or _is_mark(character)


def _is_mark(character: str) -> bool:
    return character > "\u02ff" and unicodedata.category(character)[0] == "M"


def _script(character: str) -> str:
    return "" if character < "\u0400" else _SCRIPTS[bisect_right(_FIRST, ord(character)) - 1][1]


# Equality of texts.


def normalize(text: str) -> str:
    """Normalise compatibility characters (NFKC), case and whitespace."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
