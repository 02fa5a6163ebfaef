"""Parse JSON and YAML into trees whose values have line numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

from semroute.data.categories import YamlFile
from semroute.errors import DataError

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_TAG = "tag:yaml.org,2002:"


class Tree(Protocol):
    """Value with its line."""

    @property
    def line(self) -> int:
        """1-based line where the value begins."""

    def value(self) -> Any:
        """Decode the value to plain Python."""

    def items(self) -> list[Tree] | None:
        """Return the items of a list; None for anything else."""

    def pairs(self) -> list[tuple[str, Tree]] | None:
        """Return keys and values of an object; None for anything else.

        Repeated keys are included.
        """


class JsonTree:
    """Value inside of JSON text, decoded on demand."""

    def __init__(self, text: str, path: Path, at: int, line: int) -> None:
        self._text, self._path, self._at, self._line = text, path, at, line

    @property
    def line(self) -> int:
        return self._line

    def value(self) -> Any:
        return self._decoded(self._at)[0]

    def items(self) -> list[Tree] | None:
        if self._text[self._at] != "[":
            return None
        items: list[Tree] = []
        at, line = self._step(self._at + 1, self._line)
        while self._text[at] != "]":
            items.append(JsonTree(self._text, self._path, at, line))
            at, line = self._past(at, line)
        return items

    def pairs(self) -> list[tuple[str, Tree]] | None:
        if self._text[self._at] != "{":
            return None
        pairs: list[tuple[str, Tree]] = []
        at, line = self._step(self._at + 1, self._line)
        while self._text[at] != "}":
            key, end = self._decoded(at)
            at, line = self._step(end, line, at)
            at, line = self._step(at + 1, line)  # the text has been decoded once: here is a colon
            pairs.append((key, JsonTree(self._text, self._path, at, line)))
            at, line = self._past(at, line)
        return pairs

    def _past(self, at: int, line: int) -> tuple[int, int]:
        """Step past the value at ``at`` to the next, or the closing bracket."""
        end = self._decoded(at)[1]
        at, line = self._step(end, line, at)
        return self._step(at + 1, line) if self._text[at] == "," else (at, line)

    def _step(self, at: int, line: int, since: int | None = None) -> tuple[int, int]:
        match = _SPACE.match(self._text, at)
        assert match is not None
        return match.end(), line + self._text.count("\n", at if since is None else since, match.end())

    def _decoded(self, at: int) -> tuple[Any, int]:
        return _DECODER.raw_decode(self._text, at)


def json_tree(text: str, path: Path) -> JsonTree | None:
    """Parse JSON text; None if more follows the first value, as in JSON Lines.

    Raises:
        DataError: malformed JSON, with its line.
    """
    match = _SPACE.match(text)
    assert match is not None
    try:
        # Decoded once as a whole: afterwards every part of it is known to be well formed.
        _, end = _DECODER.raw_decode(text, match.end())
    except json.JSONDecodeError as error:
        message = f"malformed JSON at column {error.colno} ({error.msg}); correct it"
        raise DataError(message, path=path, line=error.lineno) from None
    except RecursionError:
        raise DataError("malformed JSON: nested too deeply", path=path) from None
    except ValueError as error:  # a number of more digits than Python converts
        raise DataError(f"malformed JSON: {error}", path=path) from None
    if text[end:].strip():
        return None
    return JsonTree(text, path, match.end(), 1 + text.count("\n", 0, match.end()))


class YamlTree:
    """Node of YAML.

    Text without quotes that looks like a number is one, everything else is text or None.
    """

    def __init__(self, file: YamlFile, node: yaml.Node) -> None:
        self._file, self.node = file, node
        self.is_block = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")

    @property
    def line(self) -> int:
        return self._file.line(self.node)

    def value(self) -> Any:
        if isinstance(self.node, yaml.SequenceNode):
            return [YamlTree(self._file, item).value() for item in self.node.value]
        if isinstance(self.node, yaml.MappingNode):
            return {key: tree.value() for key, tree in self.pairs() or ()}
        if self.node.tag == f"{_TAG}null":
            return None
        text: str = self.node.value
        return int(text) if self.node.tag == f"{_TAG}int" and text.isdecimal() and len(text) < 10 else text

    def items(self) -> list[Tree] | None:
        if not isinstance(self.node, yaml.SequenceNode):
            return None
        return [YamlTree(self._file, item) for item in self.node.value]

    def pairs(self) -> list[tuple[str, Tree]] | None:
        if not isinstance(self.node, yaml.MappingNode):
            return None
        return [
            (key.value, YamlTree(self._file, value))
            for key, value in self.node.value
            if isinstance(key, yaml.ScalarNode)
        ]


def yaml_tree(text: str, path: Path) -> YamlTree | None:
    """Parse a YAML document; None for one without content.

    Raises:
        DataError: malformed YAML, with its line.
    """

    def refuse(message: str, line: int | None) -> None:
        raise DataError(message, path=path, line=line)

    file = YamlFile(text)
    node = file.compose(refuse)
    return None if node is None else YamlTree(file, node)


def child(tree: Tree, *keys: str) -> Tree | None:
    """Return the first value under any of ``keys``, in their order."""
    values: Mapping[str, Tree] = dict(reversed(tree.pairs() or []))
    return next((values[key] for key in keys if key in values), None)
