"""Extraction of the user's current request from a conversation.

Content is read in the shapes of OpenAI's two interfaces, Anthropic's and Gemini's, from mappings and from the objects
of their clients. Content that agents add to a user's turn is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from semroute.text.normalise import folded, is_blank

# Removal of coding agents' additions to a user's turn.
#
# Agents put reminders, the state of files and terminals, output of commands and notes of their own into the user's
# turns. The names that known agents use are in ``envelopes.json`` (Claude Code, Codex, opencode, Cline, Roo, Cursor,
# aider, Copilot, Windsurf, Gemini CLI, OpenHands): elements that are dropped, elements whose content is the user's,
# headings before it, notes in brackets, and beginnings of whole turns that are not the user's. Elements of other agents
# are recognised by the last part of their names.

_OPENING = re.compile(r"<([A-Za-z][\w-]{1,60}(?: instructions)?)(?:[ \t][^<>\n]{0,400})?>")
"""Opening tag of an element. A name of one letter is HTML's or a type variable."""

_INDENT = 200
"""Characters before an element that are searched for the beginning of its line."""

_CLOSES = 8
"""Unclosed opening tags whose end is searched for; after these the rest of the text is not searched again."""


def without_envelope(text: str) -> str:
    """Return a turn's text without the additions of an agent.

    Elements are searched for at the beginning of lines only, so that a question about them stays whole. Linear in the
    text but for the few elements that are opened and never closed.
    """
    if begins_results(text) or _is_agents(text):
        return user_elements(text)
    if "<" not in text and "[" not in text and "#" not in text:
        return _after_heading(text)
    stripped = _without_elements(text, _is_listed)
    # Elements that only look like an agent's may hold the question itself.
    stripped = _without_elements(stripped, _is_same_name) or stripped
    wrapped = user_elements(stripped)
    if wrapped.strip() or (stripped is not text and _is_agents(_without_notes(stripped))):
        return wrapped
    stripped = _without_elements(stripped, _is_wrapper)  # empty ones
    return _without_notes(_after_heading(stripped))


def begins_results(text: str) -> bool:
    """Return True if ``text`` begins the results of an agent's tools.

    The parts after it in a message are results too.
    """
    return _markers()["results"].match(text.lstrip()) is not None


def user_elements(text: str) -> str:
    """Return the user's words from the elements that agents wrap them in.

    Agents do so in a tool's result, or on resuming.
    """
    return "\n".join(_contents(text))


def summary_of(text: str) -> str:
    """Return an agent's summary of an earlier conversation; "" without one.

    It is part of the user's turn.
    """
    return text if _begins(text, "summaries") else ""


@lru_cache(maxsize=1)
def _markers() -> dict[str, Any]:
    envelopes = json.loads(files("semroute.text").joinpath("envelopes.json").read_text(encoding="utf-8"))
    for key in ("results", "notes"):
        envelopes[key] = re.compile(envelopes[key], re.MULTILINE)
    return {
        **{key: value if isinstance(value, re.Pattern) else tuple(value) for key, value in envelopes.items()},
        "blocks": frozenset(envelopes["blocks"]),
        "wrappers": frozenset(envelopes["wrappers"]),
        **{kind: tuple(beginning.lower() for beginning in envelopes[kind]) for kind in ("turns", "summaries")},
    }


def _is_agents(text: str) -> bool:
    """Return True if a turn is all an agent's.

    Instructions that have an end may have the user's words after it.
    """
    return _begins(text, "turns", "summaries") and "</INSTRUCTIONS>" not in text


def _begins(text: str, *kinds: str) -> bool:
    start = (text[:200].lstrip() or text.lstrip()[:200]).lower()
    return any(start.startswith(_markers()[kind]) for kind in kinds)


def _is_listed(name: str) -> bool:
    return name.lower() in _markers()["blocks"]


def _is_wrapper(name: str) -> bool:
    return name.lower() in _markers()["wrappers"]


def _is_same_name(name: str) -> bool:
    first, _, suffix = name.lower().replace("-", "_").rpartition("_")
    return bool(first) and suffix in _markers()["suffixes"]


def _without_elements(text: str, is_block: Callable[[str], bool]) -> str:
    pieces: list[str] = []
    position = 0
    for whole, _ in _elements(text, is_block):
        if whole.start > position:
            pieces.append(text[position : whole.start])
        position = whole.stop
    if not position:
        return text
    return "".join((*pieces, text[position:])).strip()


def _elements(text: str, is_block: Callable[[str], bool]) -> Iterator[tuple[slice, slice]]:
    """Yield the agent's outermost elements and their contents, in order."""
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
        yield slice(start, end), slice(tag.end(), closing)


def _begins_line(text: str, start: int, after: int) -> bool:
    """Return True if an element begins its line.

    Only space may precede ``start`` there, or since the element that ends at ``after``.
    """
    begin = max(after, start - _INDENT)
    line = text.rfind("\n", begin, start)
    return (line >= 0 or begin == after) and not text[max(line, begin) : start].strip()


def _contents(text: str) -> Iterator[str]:
    """Yield the contents of the elements that hold the user's own words."""
    for _, inner in _elements(text, _is_wrapper):
        content = _without_notes(text[inner]).strip()
        if content:
            yield content


def _after_heading(text: str) -> str:
    for heading in _markers()["headings"]:
        _, separator, rest = text.rpartition(heading)
        if separator and rest.strip():
            return rest.strip()
    return text


def _without_notes(text: str) -> str:
    for tail in _markers()["tails"]:
        position = text.find(f"\n{tail}")
        if position >= 0 or text.startswith(tail):
            text = text[: max(position, 0)].strip()
    cleaned = _markers()["notes"].sub("", text)
    return text if cleaned == text else cleaned.strip()


STANDS_ALONE_WORDS = 4
STANDS_ALONE_CHARACTERS = 16
"""Length below which a request ("and in french?") is routed with the one before; a second limit is in words."""

MAX_GO_ON = 100
"""Longest turn that may be a mere confirmation, such as "yes, please go on", characters."""

_TEXT_PARTS = frozenset(("text", "input_text", "output_text"))
_NO_ATTACHMENTS = _TEXT_PARTS | {
    "tool_result", "tool_use", "server_tool_use", "web_search_tool_result", "thinking", "redacted_thinking",
    "reasoning", "refusal", "function_call", "function_call_output", "functionCall", "functionResponse", "thought",
}  # fmt: skip
_MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id", "refusal")
_IMAGE_PARTS = frozenset(("image", "image_url", "input_image"))
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_OPTION = re.compile(r"[(\[]?[a-z][.)\]]*")
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


def message_field(message: object, name: str) -> object:
    """Return a field of a mapping or a client's object; None without it."""
    if type(message) is dict or isinstance(message, Mapping):  # the first is quick, and true of nearly every message
        return message.get(name)
    return getattr(message, name, None)


def fields_of(value: Any) -> Mapping[str, object] | None:
    """Return the fields of an object that is a message or a part of one.

    None for any other object.

    Known are pydantic models and what else has ``model_dump``, dataclasses, and objects with ``role`` and ``content``.
    Fields that are None are left out: they carry no information.
    """
    kind = type(value)
    dump = getattr(kind, "model_dump", None)
    if callable(dump):
        dumped = dump(value, exclude_none=True)
        return dumped if isinstance(dumped, Mapping) else None
    if is_dataclass(kind):
        names: Iterable[str] = (field.name for field in fields(kind))
    elif hasattr(value, "role") and hasattr(value, "content"):
        names = _MESSAGE_FIELDS
    else:
        return None
    values = {name: getattr(value, name, None) for name in names}
    return {name: item for name, item in values.items() if item is not None}


def parts_of(message: object) -> Iterator[object]:
    """Yield the parts of a message's content; a string is one part.

    Parts are texts, mappings or objects.
    """
    content = message_field(message, "content")
    if content is None:
        content = message_field(message, "parts")  # Gemini's
    if isinstance(content, str):
        yield content
    elif isinstance(content, Sequence) and not isinstance(content, bytes | bytearray):
        yield from content


def text_of(part: object) -> str | None:
    """Return the text of a part; None for any other part.

    Images, results of tools and a model's thoughts have none.
    """
    if isinstance(part, str):
        return part
    if message_field(part, "type") not in (None, *_TEXT_PARTS) or message_field(part, "thought"):
        return None
    text = message_field(part, "text")
    if text is not None and not isinstance(text, str):
        text = message_field(text, "value")  # of OpenAI's assistants
    return text if isinstance(text, str) else None


def attachment_types(message: object) -> Iterator[str]:
    """Yield the attachment types of a message.

    Text, tool calls, tool results and thoughts of models are not attachments.

    An image is an ``image_url``, whatever the format calls it, also within a tool's result.
    """
    for part in parts_of(message):
        kind = _type_of(part)
        if kind == "tool_result":
            yield from attachment_types(part)
        elif kind not in _NO_ATTACHMENTS:
            yield "image_url" if kind in _IMAGE_PARTS else kind


def _type_of(part: object) -> str:
    if isinstance(part, str):
        return "text"
    kind = message_field(part, "type")
    if isinstance(kind, str):
        return kind
    if message_field(part, "text") is not None:
        return "text"
    # Gemini's parts are named by their field.
    for name in ("inlineData", "inline_data", "fileData", "file_data"):
        data = message_field(part, name)
        if data is not None:
            media = message_field(data, "mimeType") or message_field(data, "mime_type") or ""
            return "image" if str(media).startswith("image/") else "file"
    return next(iter(part), "unknown") if isinstance(part, Mapping) else "unknown"


def has_turn(message: object) -> bool:
    """Return True for a user's turn, False for tool results in its name."""
    if message_field(message, "role") != "user":
        return False
    kinds = [_type_of(part) for part in parts_of(message)]
    return not kinds or any(kind not in ("tool_result", "functionResponse") for kind in kinds)


def user_text(message: object) -> str:
    """Return the user's own words in a message; "" without any."""
    texts: list[str] = []
    is_result = False
    for text in map(text_of, parts_of(message)):
        if text is not None:
            is_result = is_result or begins_results(text)
            texts.append(user_elements(text) if is_result else without_envelope(text))
    return "\n".join(text for text in texts if not is_blank(text))


def last_ask(messages: Sequence[object]) -> str:
    """Return the newest request of the user; "" without any.

    The one before is added where it is too short to stand alone.

    Turns without text, with an agent's words alone, or that only let the model go on ("yes, continue") request nothing
    new: the request before them is still in force.
    """
    latest = waiting = ""
    for message in reversed(messages):
        if message_field(message, "role") != "user":
            continue
        text = user_text(message)
        if not text:
            continue
        latest = latest or text
        if is_go_on(text):
            continue
        if stands_alone(text):
            return f"{text}\n{waiting}" if waiting else text
        if waiting:
            # Short ones alone: the newest with the one before it.
            return _with_first(messages, message, text, waiting)
        waiting = text
    return waiting or latest or _last_summary(messages)


def _with_first(messages: Sequence[object], message: object, text: str, waiting: str) -> str:
    """Return the newest request with the last one that stands alone.

    Without such a one, with the one just before it.
    """
    is_earlier = False
    for earlier in reversed(messages):
        if is_earlier and message_field(earlier, "role") == "user":
            first_text = user_text(earlier)
            if first_text and stands_alone(first_text) and not is_go_on(first_text):
                return f"{first_text}\n{waiting}"
        is_earlier = is_earlier or earlier is message
    return f"{text}\n{waiting}"


def _last_summary(messages: Sequence[object]) -> str:
    for message in reversed(messages):
        if message_field(message, "role") == "user":
            for text in map(text_of, parts_of(message)):
                if text and summary_of(text):
                    return text
    return ""


def stands_alone(text: str) -> bool:
    """Return True if a turn is long enough to be routed alone."""
    if len(text) >= STANDS_ALONE_CHARACTERS:
        return True
    # Two characters make about a word where words have no spaces between them.
    return len(text.split()) + len(_SPACELESS.findall(text)) // 2 >= STANDS_ALONE_WORDS


def is_go_on(text: str) -> bool:
    """Return True for a mere confirmation: "yes", "ok, go on", "2", 👍."""
    if len(text) > MAX_GO_ON:
        return False
    normalized, (core, filler) = folded(text), _go_ons()
    is_bare = has_core = True
    for index, matched_word in enumerate(_WORD.finditer(normalized)):
        word = matched_word[0]
        is_digits, is_core = word.isdigit(), word in core
        if not (is_digits or is_core or word in filler):
            return _OPTION.fullmatch(normalized) is not None
        has_core = is_core or (has_core and index > 0)
        is_bare = is_bare and is_digits
    return is_bare or has_core or _OPTION.fullmatch(normalized) is not None


@lru_cache(maxsize=1)
def _go_ons() -> tuple[frozenset[str], frozenset[str]]:
    """Return words of confirmation, and words that come with them.

    They let a model go on or choose what it offers, in some 25 languages.
    """
    phrases = json.loads(files("semroute.text").joinpath("go_ons.json").read_text(encoding="utf-8"))
    # A mark of a vowel parts what the pattern takes for words; the lists are cut as the turns are.
    core, filler = (frozenset(_WORD.findall(folded(" ".join(phrases[key])))) for key in ("core", "filler"))
    return core, filler
