"""Where the command line writes: rich text for people, plain lines for programs.

Colour is rich's decision: none when the output is not a terminal or ``NO_COLOR`` is set (https://no-color.org).
"""

from __future__ import annotations

import io
import json
import sys

import click
from rich.console import Console
from rich.text import Text

from semroute.whole import json_line


def stdout() -> Console:
    """The console for results."""
    _write_what_can_be_written(sys.stdout)
    return Console(highlight=False, soft_wrap=False)


def stderr() -> Console:
    """The console for progress, notes and errors."""
    _write_what_can_be_written(sys.stderr)
    return Console(stderr=True, highlight=False, soft_wrap=False)


def _write_what_can_be_written(stream: object) -> None:
    """Lone surrogates, or other scripts on an ASCII terminal, become ``?`` and no exception."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


def print_error(message: str) -> None:
    """One red line on standard error; a message of several lines keeps them. Never wrapped, never read as markup."""
    stderr().print(Text(f"error: {message}", style="red"), soft_wrap=True)


def print_warning(message: str) -> None:
    """One yellow line on standard error."""
    stderr().print(Text(f"warning: {message}", style="yellow"), soft_wrap=True)


def print_note(message: str) -> None:
    """One dim line on standard error."""
    stderr().print(Text(message, style="dim"), soft_wrap=True)


def print_text(text: str) -> None:
    """Plain text on standard output, as it is; what the output's encoding cannot write becomes ``?``."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(text.encode(encoding, "replace").decode(encoding))


def print_json(value: object) -> None:
    """A value as one line of JSON on standard output; escapes what the output's encoding cannot write."""
    line = json_line(value)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(value, ensure_ascii=True)
    click.echo(line)
