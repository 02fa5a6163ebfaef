"""Entry point ``semroute``: command groups, signals and error exits."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click

from semroute import __version__
from semroute.errors import SemrouteError

# Signals that end a command: none gets lost, and the log is flushed for each.

AGAIN_S = 0.05
"""Delay until a lost interrupt is raised again, in seconds."""
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals besides Ctrl-C that end a process; by default they would end it at once."""


class Terminated(KeyboardInterrupt):
    """Termination of this process by a signal of :data:`ENDING`.

    A subclass of KeyboardInterrupt, so that code which handles Ctrl-C handles it.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


@contextmanager
def orderly_end() -> Iterator[None]:
    """Raise :class:`Terminated` in the main thread on the first signal.

    Later signals wait for it.

    A handler set by a shell or another program stays: nohup has SIGHUP ignored. Outside the main thread, where no
    handler can be set, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        _raised.clear()


_raised: set[int] = set()
"""Signal that ended the command, if any."""


def _end(number: int, _: object) -> None:
    if not _raised:
        _raised.add(number)
        raise Terminated(number)


@contextmanager
def not_lost() -> Iterator[None]:
    """Raise an interrupt again that was dropped in a destructor.

    Python raises :class:`KeyboardInterrupt` wherever the main thread is, and drops errors raised in a ``__del__``
    (``sys.unraisablehook``). Some libraries free hundreds of such objects while they are imported: without this, a
    Ctrl-C at that moment changes nothing, and the command continues to its end.
    """
    passed_on, again = sys.unraisablehook, list[threading.Timer]()

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            passed_on(unraisable)
            return
        # Not raised here: errors raised in this function are dropped as well.
        lost = unraisable.exc_value
        _raised.clear()
        timer = threading.Timer(AGAIN_S, _press, (lost.signal if isinstance(lost, Terminated) else signal.SIGINT,))
        again.append(timer)
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = passed_on
        for timer in again:
            timer.cancel()


def _press(number: int) -> None:
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:  # a signal to the thread itself also interrupts a blocking call
        signal.pthread_kill(threading.main_thread().ident or 0, number)


# Click groups that import commands lazily and suggest similar names.


class SuggestingGroup(click.Group):
    """Group that answers an unknown command with the nearest known one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command, or suggest the nearest one."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            meant = difflib.get_close_matches(name, self.list_commands(ctx), n=1, cutoff=0.6)
            fix = f'Did you mean "{meant[0]}"?' if meant else f"Commands: {', '.join(self.list_commands(ctx))}."
            ctx.fail(f"No such command {name!r}. {fix}")
        return super().resolve_command(ctx, args)


class LazyGroup(SuggestingGroup):
    """Group of commands that are imported on first use.

    Args:
        targets: command name to ``("module:attribute", short help)``.
        sections: headings of the help, with the names of the commands under each in their order.
    """

    def __init__(
        self,
        *args: Any,
        targets: Mapping[str, tuple[str, str]],
        sections: Mapping[str, Sequence[str]] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._targets = dict(targets)
        self._sections = dict(sections)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._targets:
            return None
        module, _, attribute = self._targets[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = {name for names in self._sections.values() for name in names}
        others = [name for name in self._targets if name not in listed]
        width = max(map(len, self._targets), default=0)
        for title, names in (*self._sections.items(), ("Commands" if not listed else "Other commands", others)):
            rows = [(name.ljust(width), self._targets[name][1]) for name in names if name in self._targets]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class PluginGroup(LazyGroup):
    """Group that also offers the commands of installed plugins.

    A plugin's entry point of the group ``semroute.commands`` names a :class:`click.Command`. Names come from the
    packages' metadata: a module is imported when its command is invoked. What is built in comes first, and a plugin
    that cannot be used spoils its own command alone.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the built-in commands, then those of plugins."""
        return [*self._targets, *_plugin_commands(self._targets)[0]]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; built-in ones need no look at what is installed."""
        if cmd_name in self._targets:
            return super().get_command(ctx, cmd_name)
        from semroute.plugins import installed, sole

        plugin = sole(installed("commands").get(cmd_name, ()))
        if plugin is None:
            return None
        command = plugin.load()
        if not isinstance(command, click.Command):
            raise plugin.error(f"is a {type(command).__name__}, and not a click.Command")
        if command.name != cmd_name:
            command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the built-in commands by section, then those of plugins."""
        super().format_commands(ctx, formatter)
        rows, warnings = _plugin_commands(self._targets)
        if rows:
            width = max(map(len, self._targets))
            with formatter.section("Plugins"):
                formatter.write_dl([(name.ljust(width), f"Command of the package {of}.") for name, of in rows.items()])
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)


def _plugin_commands(built_in: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Return the commands of plugins with their packages, and warnings."""
    from semroute.errors import PluginError
    from semroute.plugins import installed, sole

    rows, warnings = dict[str, str](), list[str]()
    for name, found in installed("commands").items():
        try:
            plugin = sole(found)
            if name in built_in:
                raise found[0].error("has the name of a built-in one and is never used")
        except PluginError as error:
            warnings.append(str(error))
            continue
        assert plugin is not None
        rows[name] = plugin.distribution
    return rows, warnings


_COMMANDS = {
    "init": ("semroute.cli.config:init", "Write a commented semroute.yaml to start from."),
    "config": ("semroute.cli.config:config", "Work with semroute.yaml."),
    "import": ("semroute.cli.import_data:import_data", "Make category files from labelled data."),
    "build-index": ("semroute.cli.index:build_index", "Build an index from categories."),
    "route": ("semroute.cli.route:route", "Say which category and model a query goes to, and why."),
    "rules": ("semroute.cli.route:rules", "Show which rule of semroute.yaml a query meets."),
    "ask": ("semroute.cli.ask:ask", "Route a query, call the model and print its answer."),
    "serve": ("semroute.cli.serve:serve", "Serve OpenAI's and Anthropic's formats: the gateway."),
    "keys": ("semroute.cli.keys:keys", "Create, list and revoke the gateway's keys."),
    "connect": ("semroute.cli.serve:connect", "Point a coding agent at the gateway."),
    "feedback": ("semroute.cli.log:feedback", "Say how good an answer was."),
    "estimate": ("semroute.cli.estimate:estimate", "Say what a month of requests costs now, and routed."),
    "log": ("semroute.cli.log:log", "Look at the log of outcomes, export it, keep it small."),
    "report": ("semroute.cli.report:report", "Say what was paid, what was saved, and how long it took."),
    "advise": ("semroute.cli.report:advise", "Say where a cascade pays, and where it wastes money."),
    "trial": ("semroute.cli.report:trial", "Show a policy on trial, and change its share of the queries."),
    "providers": ("semroute.cli.providers:providers", "Check the deployments, and show how they stand."),
    "evaluate": ("semroute.cli.evaluate:evaluate", "Measure an index on labelled queries."),
    "evaluate-policy": (
        "semroute.cli.policy:evaluate_policy",
        "Replay policies over outcomes: quality against cost.",
    ),
    "collect": ("semroute.cli.collect:collect", "Ask every model a sample of queries, within a budget."),
    "label": ("semroute.cli.label:label", "Judge answers, by hand or by a model."),
    "tune-policy": ("semroute.cli.policy:tune_policy", "Find the cheapest policy that keeps a floor of quality."),
    "train": ("semroute.cli.train:train", "Train a classifier that predicts each model's quality."),
    "predict": ("semroute.cli.train:predict", "Predict each model's quality, and choose one."),
    "train-checks": ("semroute.cli.train:train_checks", "Train a classifier of answers for cascades."),
    "tune": ("semroute.cli.evaluate:tune", "Choose thresholds on labelled queries."),
    "add": ("semroute.cli.index:add", "Add examples to an index without building it again."),
    "remove": ("semroute.cli.index:remove", "Remove a category or examples from an index."),
    "inspect": ("semroute.cli.index:inspect", "Show what an index holds and which categories overlap."),
}

_SECTIONS = {
    "Start": ("init", "config", "import", "build-index"),
    "Route": ("route", "rules", "ask", "feedback", "providers"),
    "Gateway": ("serve", "connect", "keys"),
    "Index": ("evaluate", "tune", "add", "remove", "inspect"),
    "Log and money": ("estimate", "log", "report", "advise", "trial"),
    "Policies from outcomes": (
        "collect",
        "label",
        "evaluate-policy",
        "tune-policy",
        "train",
        "predict",
        "train-checks",
    ),
}
"""Sections of the help; commands in none of them come last."""


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    click.echo(f"semroute {__version__}")
    context.exit()


@click.group(
    cls=PluginGroup, targets=_COMMANDS, sections=_SECTIONS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Send each query to the cheapest language model that can handle it."""


def main(arguments: Sequence[str] | None = None, *, command: click.Command = cli, program: str = "semroute") -> int:
    """Run a command line.

    Args:
        arguments: the words after the program's name; None takes those of the process.
        command: the command to run; scripts pass their own.
        program: the program's name in its help.

    Returns:
        The exit code: 0, 2 for bad usage or bad input, 1 for other errors, 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        with orderly_end(), not_lost(), _warnings_shown():
            code = command.main(arguments, prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except SemrouteError as error:
        from semroute.cli.console import print_error

        print_error(str(error))
        return error.exit_code
    except click.Abort as error:
        # click converts every KeyboardInterrupt to Abort; those of signals have a number
        ended_by = error.__cause__
        if isinstance(ended_by, Terminated):
            click.echo(f"ended by {ended_by}", err=True)
            return 128 + ended_by.signal
        click.echo("interrupted", err=True)
        return 130
    except Terminated as error:  # between click's end and this line
        return 128 + error.signal
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except OSError as error:  # a full disk under the temporary folder, for instance
        from semroute.cli.console import print_error

        print_error(f"{error.filename or 'the operating system'}: {error.strerror or error}")
        return 1
    return code if isinstance(code, int) else 0


def _show(error: click.ClickException) -> None:
    """Print a usage error, which may quote another program's argument."""
    from semroute.cli.console import visible

    said = io.StringIO()
    error.show(said)
    click.echo(visible(said.getvalue()), err=True, nl=False)


class _Warnings(logging.Handler):
    """Handler that prints library warnings like a command's own.

    A warning may quote a provider.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record as one yellow line."""
        from semroute.cli.console import print_warning

        print_warning(self.format(record))


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Print library warnings, unless the host program has configured logging."""
    log, handler = logging.getLogger("semroute"), _Warnings(logging.WARNING)
    if log.hasHandlers():
        yield
        return
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _silence_stdout() -> None:
    """Silence standard output after a broken pipe.

    Python's last flush would complain otherwise.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
