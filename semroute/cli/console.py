"""Console output: rich text for people, plain lines for programs.

Colour is rich's decision: none when the output is not a terminal or ``NO_COLOR`` is set (https://no-color.org).

A terminal obeys control characters, whoever wrote them: a query, an answer or a provider's error may set the clipboard
(OSC 52), the title or the cursor (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html). All that is printed for
(OSC 52), the title or the cursor (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html). All text for people goes
through :func:`visible`, in a pipe as well, whose other end is often a terminal. Programs get the bytes unchanged: JSON,
which escapes them, and an answer that does not go to a terminal.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text

from semroute.cli.layout import UNBOUNDED, wrapped
from semroute.storage import json_line

_BIDI = "\u202a-\u202e\u2066-\u2069"
"""Overrides and isolates of writing direction, which can disguise a text (https://trojansource.codes)."""
_OBEYED = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}]")
"""Control characters (ECMA-48: C0 but for tab and newline, DEL, C1) and those of writing direction."""
_UNESCAPED = re.compile(f"[\x7f-\x9f{_BIDI}]")
"""The control characters that JSON may hold unescaped."""
_HALF = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """Escape the control characters of a text; newlines and tabs stay.

    ``^[`` stands for escape, in the notation of cat and less; ``<U+202E>`` for a character without such a notation.
    """
    if _HALF.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _OBEYED.sub(_shown, text.replace("\r\n", "\n"))


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"^{chr(code ^ 0x40)}" if code < 0x80 else f"<U+{code:04X}>"


class _SafeConsole(Console):
    """Console without markup, and without foreign control characters.

    On anything but a terminal a line is as long as its text, unless ``COLUMNS`` asks for a width.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=False, markup=False, emoji=False)
        if os.environ.get("COLUMNS", "").isdigit():
            return
        if not self.is_terminal:
            self.width = UNBOUNDED
        elif self.is_dumb_terminal:  # rich takes anything but a terminal to have 80 columns
            with suppress(OSError, ValueError):
                self.width = os.get_terminal_size(self.file.fileno()).columns or self.width

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with all text made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def stdout() -> Console:
    """Return the console for results."""
    _write_what_can_be_written(sys.stdout)
    return _SafeConsole()


def stderr() -> Console:
    """Return the console for progress, notes and errors."""
    _write_what_can_be_written(sys.stderr)
    return _SafeConsole(stderr=True)


def _write_what_can_be_written(stream: object) -> None:
    """Replace unencodable characters by ``?``.

    These are lone surrogates, or other scripts on an ASCII terminal.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


def print_words(console: Console, text: Text, indent: int = 0) -> None:
    """Print a sentence, wrapped between words at a terminal only.

    A path or a word of a command that is longer than a line stays whole, so that it can be copied. All lines but the
    first begin with ``indent`` spaces.
    """
    # Made visible first: the notation of a control character takes room.
    if visible(text.plain) != text.plain:
        text = Text(visible(text.plain), style=text.style)
    lines = wrapped(text, console.width - indent, whole_words=True) if console.is_terminal else [text]
    for place, line in enumerate(lines):
        console.print(Text(" " * indent).append_text(line) if place else line, soft_wrap=True)


def print_error(message: str) -> None:
    """Print an error in red on standard error, line breaks included.

    It is never read as markup.
    """
    _print_to_stderr(f"error: {message}", "red")


def print_warning(message: str) -> None:
    """Print a warning in yellow on standard error."""
    _print_to_stderr(f"warning: {message}", "yellow")


def print_note(message: str) -> None:
    """Print a note in dim text on standard error."""
    _print_to_stderr(message, "dim")


def _print_to_stderr(message: str, style: str) -> None:
    print_words(stderr(), Text(message, style=style))


def print_line(text: str) -> None:
    """Print plain text for people on standard output.

    Control characters are made visible; a character that the output's encoding cannot write becomes ``?``.
    """
    click.echo(_writable(visible(text)))


class AnswerPrinter:
    """Printer of a streamed answer: visible on a terminal, else unchanged.

    A character may be split between pieces, so that the end of one may wait for the next. As a context manager it ends
    the line of an answer that breaks off, so that the error which follows begins one of its own.
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
            with suppress(OSError):  # the reader may have gone already
                self.end()

    def write(self, piece: str) -> None:
        """Print a piece, except a half character or a carriage return at its end."""
        text = self._held + piece
        self._held = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" or text[-1:] == "\r" else ""
        self._is_open = self._is_open or bool(text)
        self._print(text[: len(text) - len(self._held)])

    def end(self) -> None:
        """Print the rest, and the end of the line."""
        held, self._held = self._held, ""
        self._is_open = False
        self._print(f"{held}\n")

    def _print(self, text: str) -> None:
        if self._is_terminal:
            text = visible(text)
        elif _HALF.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        click.echo(_writable(text), nl=False, color=True)  # click would strip some of its sequences


def print_text(text: str) -> None:
    """Print an answer as :class:`AnswerPrinter` does, and end the line."""
    printer = AnswerPrinter()
    printer.write(text)
    printer.end()


def _writable(text: str) -> str:
    """Replace characters that standard output cannot encode by ``?``."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def print_json(value: object) -> None:
    """Print a value as one line of JSON on standard output.

    Control characters are escaped, and so are those that the output's encoding cannot write.
    """
    line = _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json_line(value))
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(value, ensure_ascii=True)
    click.echo(line)


# Options that several commands share, so that they have the same spelling and help.

Function = TypeVar("Function", bound=Callable[..., Any])


class NumberRange(click.FloatRange):
    """Range of numbers that rejects "nan"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number", param, ctx)
        return found


class NameChoice(click.Choice[str]):
    """Choice among names; an unknown name gets a suggestion."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return the message with the choices and the nearest name."""
        from semroute.text.names import did_you_mean

        said = super().get_invalid_choice_message(value, ctx)
        meant = did_you_mean(str(value), self.choices)
        return f"{said} {meant[0].upper()}{meant[1:]}" if meant else said


index_option = click.option(
    "--index",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Folder of the index artifact (default: SEMROUTE_INDEX, or .semroute/index).",
)
"""``index: Path | None``."""

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file (default: semroute.yaml in this folder, if there is one).",
)
"""``config_path: Path | None``."""

text_option = click.option("--text", metavar="COLUMN", help="Column of the texts, by name or number.")
"""``text: str | None``."""

label_option = click.option("--label", metavar="COLUMN", help="Column of the labels, by name or number.")
"""``label: str | None``."""

label_names_option = click.option(
    "--names",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Names of labels that are numbers: one a line, JSON, dataset_info.json, or the data set's README.md.",
)
"""``names: Path | None``."""

log_option = click.option(
    "--log", "log_url", metavar="URL", help="Database of the log (default: log.url, or .semroute/log.db)."
)
"""``log_url: str | None``."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""``as_json: bool``."""


def _pairs(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for value in values:
        key, sign, rest = value.partition("=")
        if not sign or not key:
            raise click.BadParameter(f'write it as KEY=VALUE, not "{value}"', context, parameter)
        pairs[key] = rest
    return pairs


metadata_option = click.option(
    "--metadata",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_pairs,
    help="What is known of the caller, for rules; may be repeated.",
)
"""``metadata: dict[str, str]``."""

prefer_option = click.option(
    "--prefer",
    type=click.Choice(["cheap", "balanced", "best"]),
    help="Call the decision's models from the lowest price up, as decided, or from the highest price down.",
)
"""``prefer: Preference | None``."""


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(dict.fromkeys(name.strip() for name in value.split(",")))


def names_option(flag: str, help: str) -> Callable[[Function], Function]:
    """Return an option for comma-separated names: ``tuple[str, ...] | None``."""
    return click.option(flag, metavar="A,B", callback=_names, help=help)


models_option = names_option("--models", "Only these models of the outcomes.")
"""``models: tuple[str, ...] | None``."""

prices_option = click.option(
    "--prices",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='YAML, "model: [input, output]", USD per million tokens.',
)
"""``prices: Path | None``."""

vectors_option = click.option(
    "--vectors", type=click.Path(path_type=Path), metavar="FILE.npz", help="Keep the queries' vectors in this file."
)
"""``vectors: Path | None``."""

seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of everything drawn."
)
"""``seed: int``."""

HEADS = ("linear", "neighbours", "clusters", "boosting", "forest")
"""Names of :func:`semroute.learn.query_quality.estimators`; importing that is too slow for a help text."""


def choose_heads(*more: str) -> Callable[[Function], Function]:
    """Return the option ``heads: tuple[str, ...]``; empty means all.

    ``more`` are names besides :data:`HEADS`.
    """
    return click.option(
        "--head",
        "heads",
        multiple=True,
        type=NameChoice([*HEADS, *more]),
        help="Try only this one (repeatable; default: all).",
    )


heads_option = choose_heads()

no_log_option = click.option(
    "--no-log", is_flag=True, help="Keep nothing of this query, whatever the configuration says of the log."
)


# Progress bars of long work on standard error; none unless that is a terminal.


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function of step, done and total that draws a bar for each step."""
    with _bars(stderr()) as progress:
        yield progress


@contextmanager
def shown_work() -> Iterator[tuple[Callable[[str, int, int], None], Callable[[str], None]]]:
    """Yield the receivers of a workflow's progress and warnings.

    Warnings are printed above the bars.
    """
    console = stderr()
    with _bars(console) as progress:
        yield progress, lambda message: print_words(console, Text(f"warning: {message}", style="yellow"))


@contextmanager
def _bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    columns = (
        TextColumn("{task.description:<18}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[count]:>15}", markup=False),
        TimeElapsedColumn(),
    )
    bars = Progress(*columns, console=console, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def show(step: str, done: int, total: int) -> None:
        if not tasks:  # work without any step leaves the terminal as it is
            bars.start()
        if step not in tasks:
            tasks[step] = bars.add_task(step, total=None, count="")
        # Without a total the bar pulses: a step of one part still shows progress.
        count = f"{done:,}/{total:,}" if total > 1 else ""
        bars.update(tasks[step], completed=done, total=total if done or total > 1 else None, count=count)

    try:
        yield show
    finally:
        if tasks:
            bars.stop()


# Times as people write them on a command line.

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

if TYPE_CHECKING:
    _Base = click.ParamType[datetime]
else:  # generic only in newer releases of click
    _Base = click.ParamType


class Moment(_Base):
    """Point in time: ``7d`` ago (also s, m, h, w) or ISO 8601; default UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return a time with its zone."""
        if isinstance(value, datetime):
            return value
        words = str(value).strip()
        ago = _AGO.fullmatch(words)
        try:
            if ago is not None:
                return datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
            found = datetime.fromisoformat(words)
        except (ValueError, OverflowError):
            self.fail(f"{words!r} is no time: write 7d, 12h, 2026-11-01 or 2026-11-01T08:00+01:00", param, ctx)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


MOMENT = Moment()
since_option = click.option("--since", type=MOMENT, metavar="TIME", help="From then on: 7d, 12h, or 2026-11-01.")
"""``since: datetime | None``."""
until_option = click.option("--until", type=MOMENT, metavar="TIME", help="Before then.")
"""``until: datetime | None``."""
