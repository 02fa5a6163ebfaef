"""YAML parser with the line of every key, which refuses duplicate keys.

PyYAML silently keeps the last of two equal keys; here both are seen before the values are built.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from semroute.config.values import Problem, dotted
from semroute.yaml_bounds import YamlBoundsError, check_yaml

KeyPath: TypeAlias = tuple[str, ...]


MOST_BYTES = 1 << 20
"""Largest configuration; one with a thousand deployments has a quarter of it."""


MAX_NODES = 50_000


MAX_NUMBER_LENGTH = 400
"""Most digits of a number: a double has 309, and PyYAML's sexagesimal numbers cost the square of their length."""


_LONG_ESCAPE = re.compile(r"\\U([0-9A-Fa-f]{8})")


_MERGE = "tag:yaml.org,2002:merge"


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


@dataclass(frozen=True, slots=True)
class Document:
    """Parsed YAML file.

    Attributes:
        data: the values; None for an empty file.
        lines: 1-based line of every key and list item, by its path.
        repeated: one problem for each duplicate key.
    """

    data: object = None
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    repeated: tuple[Problem, ...] = ()

    def line(self, path: KeyPath) -> int | None:
        """Return the line of ``path``, or of its nearest parent in the file."""
        return next(
            (self.lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in self.lines), None
        )


class YamlError(Exception):
    """Text that is not one YAML document of plain values.

    Args:
        message: what is wrong.
        line: 1-based, where one is known.
        fix: what to do about it, where it is not in the message.
    """

    def __init__(self, message: str, line: int | None = None, fix: str = "correct the line") -> None:
        self.line = line
        self.fix = fix
        super().__init__(message)


def parse(text: str) -> Document:
    """Parse one YAML document of plain values.

    Raises:
        YamlError: for anything else; the message contains no value of the file.
    """
    try:
        check_yaml(text, most_bytes=MOST_BYTES, most_nodes=MAX_NODES, is_for_python=True)
    except YamlBoundsError as error:
        raise YamlError(str(error), None if error.row is None else error.row + 1, fix="") from None
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Document()
            line_walk = _LineWalk(loader)
            line_walk.visit(node, ())
            return Document(loader.construct_document(node), line_walk.lines, tuple(line_walk.repeated))
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        raise YamlError("a character that YAML does not allow", text.count("\n", 0, error.position) + 1) from None
    except yaml.MarkedYAMLError as error:
        position = error.problem_mark or error.context_mark
        raise YamlError(f"malformed YAML: {error.problem}", position.line + 1 if position else None) from None
    except RecursionError:
        raise YamlError("malformed YAML: nested too deeply") from None
    except (ValueError, OverflowError):
        # Numbers have errors of their own, with their line; PyYAML raises this one as Python's.
        line = next((n for n, line_text in enumerate(text.split("\n"), 1) if _has_no_character(line_text)), None)
        raise YamlError("malformed YAML: an escape beyond Unicode", line) from None


def _has_no_character(line: str) -> bool:
    """Return True if a line has an escape beyond Unicode.

    An example is ``\\UFFFFFFFF``, for which there is no character.
    """
    return any(int(escape, 16) > sys.maxunicode for escape in _LONG_ESCAPE.findall(line))


class _LineWalk:
    """Visitor that records lines and duplicate keys before values are built."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self.loader = loader
        self.lines: dict[KeyPath, int] = {}
        self.repeated: list[Problem] = []
        self._seen: set[int] = set()

    def visit(self, node: yaml.Node, path: KeyPath) -> None:
        if id(node) in self._seen:  # an alias: its lines are those of its anchor, and it may hold itself
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                item_path = (*path, str(position))
                self.lines[item_path] = item.start_mark.line + 1
                self.visit(item, item_path)
        elif isinstance(node, yaml.MappingNode):
            self._mapping(node, path)
        else:
            self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> None:
        first: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.tag == _MERGE:
                self.visit(value, path)
                continue
            self._scalar(key)
            line = key.start_mark.line + 1
            value_path = (*path, key.value)
            self.lines[value_path] = min(line, self.lines.get(value_path, line))
            if (key.tag, key.value) in first:
                message = f"written twice, first in line {first[key.tag, key.value]}"
                self.repeated.append(Problem("error", dotted(value_path), message, "keep one of the two", line))
            first.setdefault((key.tag, key.value), line)
            self.visit(value, value_path)

    def _scalar(self, node: yaml.Node) -> None:
        """Construct a scalar once, to report errors with its line.

        PyYAML's own errors for an impossible date or number have none.
        """
        try:
            if node.tag in _NUMBERS and len(node.value) > MAX_NUMBER_LENGTH:
                raise ValueError
            self.loader.construct_object(node)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
            line = node.start_mark.line + 1
            raise YamlError("malformed YAML: not the number or date that it looks like", line) from None
