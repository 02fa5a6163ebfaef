"""YAML to nodes with the line at which each stands in the file.

Nodes, not values: they keep repeated keys, what the user wrote where YAML sees a number or a boolean, and lines.
"""

from __future__ import annotations

import re

import yaml

from semroute.categories.notes import Report
from semroute.yaml_bounds import YamlBoundsError, check_yaml

MOST_BYTES = 32 << 20
MOST_NODES = 500_000
"""Of a category file; more examples belong in a .txt, .jsonl or .csv file, which are read line by line."""

# libyaml where PyYAML was built with it: ten times as fast.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_FIX = 'put quotes around text that holds ": " or " #", or that starts with a character other than a letter or a digit'


def is_plain(node: yaml.Node) -> bool:
    """Whether ``node`` is text without quotes and not a block."""
    return isinstance(node, yaml.ScalarNode) and not node.style


class YamlFile:
    """The nodes of one YAML document, and where they stand.

    Args:
        text: the file's text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._rows = _BREAK.split(text)
        # YAML 1.1 ends lines where editors do not: at NEL, LS and PS.
        self._numbers = [1]
        for found in _BREAK.finditer(text):
            self._numbers.append(self._numbers[-1] + found[0].endswith("\n"))

    def compose(self, report: Report) -> yaml.Node | None:
        """The document's root; None for a file without content, and, with a report, for one that is malformed."""
        unprintable = yaml.reader.Reader.NON_PRINTABLE.search(self.text)
        if unprintable:
            line = self.text.count("\n", 0, unprintable.start()) + 1
            report(f"malformed YAML: the character U+{ord(unprintable[0]):04X} is not allowed; remove it", line)
            return None
        try:
            check_yaml(self.text, most_bytes=MOST_BYTES, most_nodes=MOST_NODES)
            loader = _Loader(self.text)
            try:
                node: yaml.Node | None = loader.get_single_node()
            finally:
                loader.dispose()
        except YamlBoundsError as error:
            report(str(error), None if error.row is None else self._number(error.row))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            report(f"malformed YAML ({error.problem}); {_FIX}", self._line(mark) if mark else None)
        except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
            report(f"malformed YAML: {error}", None)
        else:
            return node
        return None

    def line(self, node: yaml.Node) -> int:
        """The 1-based line at which ``node`` starts."""
        return self._line(node.start_mark)

    def comment_after(self, node: yaml.Node) -> str | None:
        """The comment that follows unquoted text in its line, if one does."""
        if not is_plain(node):
            return None
        rest = self._rows[node.end_mark.line][node.end_mark.column :].lstrip()
        return rest if rest.startswith("#") else None

    def _line(self, mark: yaml.Mark) -> int:
        return self._number(mark.line)

    def _number(self, row: int) -> int:
        return self._numbers[min(row, len(self._numbers) - 1)]
