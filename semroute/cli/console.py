"""Where the command line writes: rich text for people, plain lines for programs.

Colour is rich's decision: none when the output is not a terminal or ``NO_COLOR`` is set (https://no-color.org).

A terminal obeys control characters, whoever wrote them: a query, an answer or a provider's error may set the clipboard
(OSC 52), the title or the cursor (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html). All that is printed for
people passes :func:`visible`, in a pipe as well, whose other end is often a terminal. Programs get the bytes as they
are: JSON, which escapes them, and an answer that does not go to a terminal.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from semroute.cli.layout import UNBOUNDED
from semroute.cli.wrapping import wrapped
from semroute.whole import json_line

_BIDI = "\u202a-\u202e\u2066-\u2069"
"""Overrides and isolates of writing direction: what is read is not what is there (https://trojansource.codes)."""
_OBEYED = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}]")
"""Control characters (ECMA-48: C0 but for tab and newline, DEL, C1) and those of writing direction."""
_UNESCAPED = re.compile(f"[\x7f-\x9f{_BIDI}]")
"""Those among them that JSON may hold as they are."""
_HALF = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """Return the text with each control character shown instead of obeyed; newlines and tabs stay.

    ``^[`` stands for escape, in the notation of cat and less; ``<U+202E>`` for what has none.
    """
    if _HALF.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _OBEYED.sub(_shown, text.replace("\r\n", "\n"))


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"^{chr(code ^ 0x40)}" if code < 0x80 else f"<U+{code:04X}>"


class _SafeConsole(Console):
    """A console that reads no markup, and sends no control characters but its own.

    Where it is no terminal a line is as long as what it says, unless ``COLUMNS`` asks for a width.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=False, markup=False, emoji=False)
        if os.environ.get("COLUMNS", "").isdigit():
            return
        if not self.is_terminal:
            self.width = UNBOUNDED
        elif self.is_dumb_terminal:  # rich takes each of them to have 80 columns
            with suppress(OSError, ValueError):
                self.width = os.get_terminal_size(self.file.fileno()).columns or self.width

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, text by text made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def stdout() -> Console:
    """The console for results."""
    _write_what_can_be_written(sys.stdout)
    return _SafeConsole()


def stderr() -> Console:
    """The console for progress, notes and errors."""
    _write_what_can_be_written(sys.stderr)
    return _SafeConsole(stderr=True)


def _write_what_can_be_written(stream: object) -> None:
    """Lone surrogates, or other scripts on an ASCII terminal, become ``?`` and no exception."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


def print_words(console: Console, text: Text, indent: int = 0) -> None:
    """Print a sentence: at a terminal broken between words, elsewhere in one line.

    A path or a command's word that is longer than a line stays whole, so that it can be copied. All lines but the
    first begin with ``indent`` spaces.
    """
    # Made visible first: what stands for a control character takes room.
    if visible(text.plain) != text.plain:
        text = Text(visible(text.plain), style=text.style)
    lines = wrapped(text, console.width - indent, whole_words=True) if console.is_terminal else [text]
    for place, line in enumerate(lines):
        console.print(Text(" " * indent).append_text(line) if place else line, soft_wrap=True)


def print_error(message: str) -> None:
    """One red sentence on standard error; a message of several lines keeps them. Never read as markup."""
    _print_to_stderr(f"error: {message}", "red")


def print_warning(message: str) -> None:
    """One yellow sentence on standard error."""
    _print_to_stderr(f"warning: {message}", "yellow")


def print_note(message: str) -> None:
    """One dim sentence on standard error."""
    _print_to_stderr(message, "dim")


def _print_to_stderr(message: str, style: str) -> None:
    print_words(stderr(), Text(message, style=style))


def print_line(text: str) -> None:
    """Plain text for people on standard output, made visible; what the output's encoding cannot write becomes ``?``."""
    click.echo(_writable(visible(text)))


class AnswerPrinter:
    """Prints a model's answer in pieces as they come: to a terminal made visible, elsewhere as it is.

    A character may be split between pieces, so that the end of one may wait for the next. As a context it ends the line
    of an answer that breaks off, so that the error which follows begins one of its own.
    """

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._held = ""
        self._is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._is_open:
            with suppress(OSError):  # nobody may be there any more to read it
                self.end()

    def write(self, piece: str) -> None:
        """Print a piece, but for a half character or a carriage return at its end."""
        text = self._held + piece
        self._held = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" or text[-1:] == "\r" else ""
        self._is_open = self._is_open or bool(text)
        self._print(text[: len(text) - len(self._held)])

    def end(self) -> None:
        """Print what is left, and the end of the line."""
        held, self._held = self._held, ""
        self._is_open = False
        self._print(f"{held}\n")

    def _print(self, text: str) -> None:
        if self._is_terminal:
            text = visible(text)
        elif _HALF.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        click.echo(_writable(text), nl=False, color=True)  # else click takes some of its sequences out


def print_text(text: str) -> None:
    """An answer on standard output, as :class:`AnswerPrinter` prints it, and the end of the line."""
    printer = AnswerPrinter()
    printer.write(text)
    printer.end()


def _writable(text: str) -> str:
    """Return the text with ``?`` for what the encoding of standard output cannot write."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def print_json(value: object) -> None:
    """A value as one line of JSON on standard output; escapes control characters and what its encoding cannot write."""
    line = _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json_line(value))
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(value, ensure_ascii=True)
    click.echo(line)
