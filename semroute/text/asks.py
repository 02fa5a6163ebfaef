"""Detection of the question in a long text, around pasted content.

An encoder averages over a text, and two pages of a contract drown the line that asks to translate them. Only the form
is used here; scores decide among the parts. Vague questions are recognised too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from semroute.text.code import looks_like_code

LONG = 400
"""Length from which a text may hold a pasted document, characters; code is recognised in shorter ones."""

SHORTEST = 40
"""Length below which a text is not searched, characters."""

ASK = 320
"""Longest question next to a document, characters."""

SEEN = 8_000
"""Characters at each end of a text that are read."""

MAX_PARTS = 4

_FENCED = re.compile(r"^[ \t]*(```|~~~)[^\n]*\n(?:(?![ \t]*(?:```|~~~))[^\n]*\n)*(?:[ \t]*(?:```|~~~)[ \t]*$)?", re.M)
_INLINE_FENCE = re.compile(r"```[^`]{1,20000}```|\"\"\"[^\"]{20,20000}\"\"\"|'''[^']{20,20000}'''")
_TAGGED = re.compile(r"<(?P<tag>[A-Za-z_][\w-]{0,30})>[^<]{60,20000}</(?P=tag)>")
_QUOTED_LINES = re.compile(r"(?:^[ \t]*>[^\n]*(?:\n|\Z))+", re.M)
_LONG_QUOTE = re.compile(r"\"[^\"]{160,20000}\"|“[^“”]{160,20000}”|«[^«»]{160,20000}»|„[^„“”]{160,20000}[“”]")
_RULES = re.compile(r"^[ \t]*(?:[-=*_#~]{3,})[ \t]*$", re.M)
_PARAGRAPHS = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_FIRST_SENTENCE = re.compile(r"^[^\n]{6,320}?[.?!:。？！؟](?=[\s\"“]|(?<=[。？！]))")
_LAST_SENTENCE = re.compile(r"(?:(?<=[.?!:\"”]\s)|(?<=[。？！]))[^\n.?!。？！]{6,320}[.?!。？！؟]*$")
_ENDS = re.compile(r"[.?!:。？！؟：…][\"')\]]*$")
_QUESTION = re.compile(r"[?？؟][\"')\]]*$")
_POINTS = re.compile(
    r"\b(?:above|below|following|this|attached|passage|document|text|snippet|paragraph)\b|[:：]$", re.I
)
_SENTENCES = re.compile(r"[.!;]\s+\S|[。！]\S")
_ASKS = re.compile(
    r"^(?:(?:please|pls|kindly|hi|hello|hey|so|now|also|and|ok|okay|but|then)[, ]+){0,3}(?:"
    r"(?:can|could|would|will) (?:you|i|we|someone)|i(?:'d| would) (?:like|love)|i (?:need|want|have to|must)|help|"
    r"what|whats|what's|who|whose|when|where|which|why|how|is|are|was|were|do|does|did|should|shall|may|might|must|"
    r"translate|summari[sz]e|write|rewrite|explain|compute|calculate|convert|find|fix|give|make|list|draft|turn|show|"
    r"tell|describe|compare|compose|create|plot|solve|prove|estimate|analy[sz]e|check|review|refactor|implement|debug|"
    r"extract|classify|identify|suggest|recommend|proofread|edit|shorten|expand|continue|answer|let|say|name|derive|"
    r"put|come up|rephrase|paraphrase|simplify|correct|outline|generate|design|build|add|remove|replace|sort|rank|"
    r"group|count|document|optimi[sz]e|clean|format|reply|respond|test|walk)\b",
    re.I,
)
_COURTESY = re.compile(
    r"^(?:(?:hi|hello|hey|dear|good (?:morning|afternoon|evening|day)|greetings)\b[^\n.?!]{0,40}|"
    r"(?:many |best |kind |warm )?(?:thanks|thank you|thx|cheers|regards|wishes|sincerely|yours)\b[^?]{0,60}|"
    r"(?:please|pls) help(?: me)?|tia|any (?:help|ideas?|thoughts)\b[^\n]{0,40}|help)[\s,.!?]*$",
    re.I,
)


@dataclass(frozen=True, slots=True)
class QuestionPart:
    """Part of a text that may be its question.

    Attributes:
        text: the part.
        cues: score of the features of its form that indicate a question; at least 1.
    """

    text: str
    cues: int


def question_parts(text: str) -> list[QuestionPart]:
    """Return the parts of a text that may be its question, likeliest first.

    Short or plain texts have no such parts.

    They are the text outside code fences, quotations and quoted lines, and the first and last paragraph, line or
    sentence of the rest, as far as they are short. Only the ends of a long text are read.
    """
    if len(text) < SHORTEST or ("\n" not in text and len(text) < LONG):
        return []
    text = text.replace("\r\n", "\n").strip()
    if len(text) > 2 * SEEN:
        text = f"{text[:SEEN]}\n\n{text[-SEEN:]}"
    own_text = _outside(text)
    has_pasted = len(own_text) < len(text)
    if not own_text or not (has_pasted or len(text) >= LONG or looks_like_code(text)):
        return []
    cues_by_part: dict[str, int] = {}
    if has_pasted and len(own_text) <= ASK:
        cues_by_part[" ".join(own_text.split())] = 3
    blocks = [block for block in _PARAGRAPHS.split(own_text) if block.strip()]
    blocks = _without_courtesy(blocks)
    if blocks:
        for part, structure in (*_edge(blocks[0], first=True), *_edge(blocks[-1], first=False)):
            # A part that is the whole text adds nothing to it.
            if part != text:
                cues_by_part[part] = max(cues_by_part.get(part, 0), structure + has_pasted)
    candidates = [
        QuestionPart(part, cues + _form(part)) for part, cues in cues_by_part.items() if not _COURTESY.match(part)
    ]
    candidates = [ask for ask in candidates if ask.cues > 0 and any(c.isalpha() for c in ask.text)]
    return sorted(candidates, key=lambda ask: -ask.cues)[:MAX_PARTS]


def _outside(text: str) -> str:
    text += "\n"  # the patterns take whole lines
    for pattern in (_FENCED, _INLINE_FENCE, _TAGGED, _QUOTED_LINES, _LONG_QUOTE):
        text = pattern.sub("\n\n", text)
    return _RULES.sub("\n", text).strip()


def _without_courtesy(blocks: Sequence[str]) -> list[str]:
    """Drop greetings at the beginning and thanks at the end."""
    start, end = 0, len(blocks)
    while start < end and _COURTESY.match(blocks[start].strip()):
        start += 1
    while end > start and _COURTESY.match(blocks[end - 1].strip()):
        end -= 1
    return list(blocks[start:end])


def _edge(block: str, *, first: bool) -> Iterator[tuple[str, int]]:
    """Yield the short parts at one end of a block, with a score.

    It is 1 for a part that stands by itself, and 0 for one that is cut out.
    """
    block = block.strip()
    code = looks_like_code(block)
    lines = [line.strip() for line in block.split("\n") if line.strip()]
    line = lines[0 if first else -1]
    if len(lines) > 1 and len(line) <= ASK and not looks_like_code(line):
        # A line of a wrapped paragraph is nearly as long as the others and ends anywhere.
        neighbour = lines[1 if first else -2]
        if code or len(line) < 0.6 * max(map(len, lines)) or _ENDS.search(line) or len(neighbour) < 0.6 * len(line):
            yield line, 1
            if len(block) > ASK:
                return
    if len(block) <= ASK and not code:
        yield " ".join(block.split()), 1
    elif len(block) > ASK:
        sentence = (_FIRST_SENTENCE if first else _LAST_SENTENCE).search(line if first else line[-2 * ASK :])
        if sentence:
            yield sentence.group().strip(), 0


def _form(part: str) -> int:
    question = bool(_QUESTION.search(part))
    is_statement = not question and len(_SENTENCES.findall(part)) > 1  # three sentences are a paragraph
    return 2 * question + bool(_ASKS.match(part)) + bool(_POINTS.search(part)) - 2 * is_statement


# Vague questions, without content of their own: "what is this?", "any thoughts?", "fix it".
#
# Next to a pasted text such a question leaves the decision to the text. To a router it looks like small talk.

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
    """Return True if a question has only words that fit any text.

    Known are the words of English, German, French and Spanish; a text in another language is not vague.
    """
    words = _WORD.findall(text.casefold().replace("\u2019", "'"))
    return not words or any(vocabulary.issuperset(words) for vocabulary in _vague_words())


@lru_cache(maxsize=1)
def _vague_words() -> tuple[frozenset[str], ...]:
    sets = json.loads(files("semroute.text").joinpath("vague_words.json").read_text(encoding="utf-8"))
    return tuple(frozenset(words.split()) for words in sets.values())
