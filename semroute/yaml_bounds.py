"""Limits of a YAML text, checked before any value is built from it.

The check runs over parser events, which neither recurse nor follow aliases: libyaml's composer recurses in C, where
depth ends the process, and an alias of an alias multiplies what stands after it ("billion laughs",
https://en.wikipedia.org/wiki/Billion_laughs_attack).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

MAX_DEPTH = 64
"""Maximum levels of nesting; the deepest semroute file has 8."""
CHARACTERS_PER_NODE = 100
"""Characters of text that count like one more node, so that an alias of a long text is counted too."""
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlBoundsError(Exception):
    """YAML text beyond a limit.

    Args:
        message: the limit, and the remedy.
        row: 0-based line at which it is exceeded, as YAML counts lines; None for the text as a whole.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        self.row = row
        super().__init__(message)


@dataclass(slots=True)
class _Open:
    """Open collection: its anchor, and its nodes so far with aliases expanded."""

    anchor: str | None
    nodes: int = 1


def check_yaml(text: str, *, most_bytes: int, most_nodes: int, is_for_python: bool = False) -> None:
    """Refuse a text that is too long, too deep, or too large.

    Its size is counted with aliases expanded. Malformed YAML passes, since the parser that follows reports the fault
    and its line.

    Args:
        text: one document.
        most_bytes: of the text, as UTF-8.
        most_nodes: values and keys, each alias counted as all that it stands for.
        is_for_python: whether PyYAML's own parser follows, which takes what libyaml refuses, such as ``%YAML 1.5``.

    Raises:
        YamlBoundsError: a limit is exceeded, or an alias is nested in its own anchor.
    """
    if len(text) > most_bytes or len(text.encode("utf-8", "replace")) > most_bytes:
        raise YamlBoundsError(f"is larger than {most_bytes / 2**20:g} MiB; split it, or shorten it")
    for parser in (_Loader, yaml.SafeLoader) if is_for_python else (_Loader,):
        try:
            _check_events(text, most_nodes, parser)
        except (yaml.YAMLError, ValueError, OverflowError):  # the last two of escapes beyond Unicode
            continue
        return


def _check_events(text: str, most_nodes: int, parser: Any) -> None:
    total, sizes = 0, dict[str, int]()
    stack: list[_Open] = []
    for event in yaml.parse(text, Loader=parser):
        nodes = 0
        match event:
            case yaml.AliasEvent():
                if any(collection.anchor == event.anchor for collection in stack):
                    raise YamlBoundsError("an alias is inside of its own anchor; remove it", _row(event))
                nodes = sizes.get(event.anchor or "", 1)
            case yaml.ScalarEvent():
                nodes = 1 + len(event.value) // CHARACTERS_PER_NODE
                if event.anchor is not None:
                    sizes[event.anchor] = nodes
            case yaml.CollectionStartEvent():
                if len(stack) == MAX_DEPTH:
                    message = f"malformed YAML: nested too deeply (more than {MAX_DEPTH} levels); flatten it"
                    raise YamlBoundsError(message, _row(event))
                stack.append(_Open(event.anchor))
                nodes = 1
            case yaml.CollectionEndEvent():
                finished = stack.pop()
                if finished.anchor is not None:
                    sizes[finished.anchor] = finished.nodes
                if stack:
                    stack[-1].nodes += finished.nodes
                continue
        if stack and not isinstance(event, yaml.CollectionStartEvent):
            stack[-1].nodes += nodes
        total += nodes
        if total > most_nodes:
            message = f"holds more than {most_nodes:,} values, aliases expanded; split the file, or write fewer aliases"
            raise YamlBoundsError(message, _row(event))


def _row(event: yaml.Event) -> int:
    return 0 if event.start_mark is None else int(event.start_mark.line)
