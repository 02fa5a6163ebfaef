"""The words of coding agents around what their user has asked.

Agents put reminders, the state of files and terminals, output of commands and notes of their own into the user's turns.
The names that the known ones use are in ``envelopes.json`` (Claude Code, Codex, opencode, Cline, Roo, Cursor, aider,
Copilot, Windsurf, Gemini CLI, OpenHands): elements that are dropped, elements whose content is the user's, headings
before it, notes in brackets, and beginnings of whole turns that are not his. Elements of other agents are known by the
last part of their names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any

_OPENING = re.compile(r"<([A-Za-z][\w-]{1,60}(?: instructions)?)(?:[ \t][^<>\n]{0,400})?>")
"""An opening tag. A name of one letter is HTML's or a type variable."""

_INDENT = 200
"""Characters before an element that are looked at for the beginning of its line."""

_CLOSES = 8
"""Opening tags without a closing one that are looked for the end of; the end of a text is then not looked for again."""


def without_envelope(text: str) -> str:
    """Return what the user wrote of a text in his turn; the text as it is where no agent has added to it.

    Elements are looked for at the beginning of lines alone, so that a question about them stays whole. Linear in the
    text but for the few elements that are opened and never closed.
    """
    if begins_results(text) or _is_agents(text):
        return user_elements(text)
    if "<" not in text and "[" not in text and "#" not in text:
        return _after_heading(text)
    stripped = _without_elements(text, _is_listed)
    # Elements that only look like an agent's may hold the question itself.
    stripped = _without_elements(stripped, _is_alike) or stripped
    wrapped = user_elements(stripped)
    if wrapped.strip() or (stripped is not text and _is_agents(_without_notes(stripped))):
        return wrapped
    stripped = _without_elements(stripped, _is_wrapper)  # empty ones
    return _without_notes(_after_heading(stripped))


def begins_results(text: str) -> bool:
    """Tell whether the results of an agent's tools begin with ``text``; the parts after it in a message are theirs."""
    return _markers()["results"].match(text.lstrip()) is not None


def user_elements(text: str) -> str:
    """Return the contents of the elements into which agents put what the user said to a result, or on resuming."""
    return "\n".join(_contents(text))


def summary_of(text: str) -> str:
    """Return the summary of an earlier conversation that an agent has put into the user's turn; "" where it has not."""
    return text if _begins(text, "summaries") else ""


@lru_cache(maxsize=1)
def _markers() -> dict[str, Any]:
    found = json.loads(files("semroute.texts").joinpath("envelopes.json").read_text(encoding="utf-8"))
    for key in ("results", "notes"):
        found[key] = re.compile(found[key], re.MULTILINE)
    return {
        **{key: value if isinstance(value, re.Pattern) else tuple(value) for key, value in found.items()},
        "blocks": frozenset(found["blocks"]),
        "wrappers": frozenset(found["wrappers"]),
        **{kind: tuple(beginning.lower() for beginning in found[kind]) for kind in ("turns", "summaries")},
    }


def _is_agents(text: str) -> bool:
    """Tell whether a turn is all of the agent's; instructions that have an end may have the user's words after it."""
    return _begins(text, "turns", "summaries") and "</INSTRUCTIONS>" not in text


def _begins(text: str, *kinds: str) -> bool:
    start = (text[:200].lstrip() or text.lstrip()[:200]).lower()
    return any(start.startswith(_markers()[kind]) for kind in kinds)


def _is_listed(name: str) -> bool:
    return name.lower() in _markers()["blocks"]


def _is_wrapper(name: str) -> bool:
    return name.lower() in _markers()["wrappers"]


def _is_alike(name: str) -> bool:
    first, _, last = name.lower().replace("-", "_").rpartition("_")
    return bool(first) and last in _markers()["suffixes"]


def _without_elements(text: str, is_block: Callable[[str], bool]) -> str:
    kept: list[str] = []
    place = 0
    for start, end in _elements(text, is_block):
        if start > place:
            kept.append(text[place:start])
        place = end
    if not place:
        return text
    return "".join((*kept, text[place:])).strip()


def _elements(text: str, is_block: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    """Begin and end of the elements that are the agent's, outermost ones, in their order."""
    end = unclosed = 0
    for tag in _OPENING.finditer(text):
        name, start = tag[1], tag.start()
        if start < end or unclosed > _CLOSES or not is_block(name) or not _begins_line(text, start, end):
            continue
        closing = text.find(f"</{name}>", tag.end())
        if closing < 0:
            unclosed += 1
            continue
        end = closing + len(name) + 3
        yield start, end


def _begins_line(text: str, start: int, after: int) -> bool:
    """Whether nothing but space stands between the beginning of a line, or the element before, and ``start``."""
    begin = max(after, start - _INDENT)
    line = text.rfind("\n", begin, start)
    return (line >= 0 or begin == after) and not text[max(line, begin) : start].strip()


def _contents(text: str) -> Iterator[str]:
    """The contents of the elements that hold the user's own words."""
    end = unclosed = 0
    for tag in _OPENING.finditer(text):
        name = tag[1]
        if tag.start() < end or unclosed > _CLOSES or not _is_wrapper(name):
            continue
        if not _begins_line(text, tag.start(), end):
            continue
        closing = text.find(f"</{name}>", tag.end())
        if closing < 0:
            unclosed += 1
            continue
        end = closing + len(name) + 3
        content = _without_notes(text[tag.end() : closing]).strip()
        if content:
            yield content


def _after_heading(text: str) -> str:
    for heading in _markers()["headings"]:
        _, found, rest = text.rpartition(heading)
        if found and rest.strip():
            return rest.strip()
    return text


def _without_notes(text: str) -> str:
    for tail in _markers()["tails"]:
        place = text.find(f"\n{tail}")
        if place >= 0 or text.startswith(tail):
            text = text[: max(place, 0)].strip()
    noted = _markers()["notes"].sub("", text)
    return text if noted == text else noted.strip()
