"""The command ``semroute``, and what becomes of errors at its edge."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from semroute import __version__
from semroute.cli.interrupts import Terminated, not_lost, orderly_end
from semroute.cli.lazy import LazyGroup
from semroute.errors import SemrouteError

_COMMANDS = {
    "init": ("semroute.cli.init:init", "Write a commented semroute.yaml to start from."),
    "config": ("semroute.cli.config:config", "Work with semroute.yaml."),
    "import": ("semroute.cli.import_data:import_data", "Make category files from labelled data."),
    "build-index": ("semroute.cli.build_index:build_index", "Build an index from categories."),
    "route": ("semroute.cli.route:route", "Say which category and model a query goes to, and why."),
    "rules": ("semroute.cli.rules:rules", "Show which rule of semroute.yaml a query meets."),
    "ask": ("semroute.cli.ask:ask", "Route a query, call the model and print its answer."),
    "feedback": ("semroute.cli.feedback:feedback", "Say how good an answer was."),
    "estimate": ("semroute.cli.estimate:estimate", "Say what a month of requests costs now, and routed."),
    "log": ("semroute.cli.log:log", "Look at the log of outcomes, export it, keep it small."),
    "report": ("semroute.cli.report:report", "Say what was paid, what was saved, and how long it took."),
    "advise": ("semroute.cli.advise:advise", "Say where a cascade pays, and where it wastes money."),
    "trial": ("semroute.cli.trial:trial", "Show a policy on trial, and change its share of the queries."),
    "providers": ("semroute.cli.providers:providers", "Check the deployments, and show how they stand."),
    "evaluate": ("semroute.cli.evaluate:evaluate", "Measure an index on labelled queries."),
    "evaluate-policy": (
        "semroute.cli.evaluate_policy:evaluate_policy",
        "Replay policies over outcomes: quality against cost.",
    ),
    "collect": ("semroute.cli.collect:collect", "Ask every model a sample of queries, within a budget."),
    "label": ("semroute.cli.label:label", "Judge answers, by hand or by a model."),
    "tune-policy": ("semroute.cli.tune_policy:tune_policy", "Find the cheapest policy that keeps a floor of quality."),
    "train": ("semroute.cli.train:train", "Train a classifier that predicts each model's quality."),
    "predict": ("semroute.cli.predict:predict", "Predict each model's quality, and choose one."),
    "train-checks": ("semroute.cli.train_checks:train_checks", "Train a classifier of answers for cascades."),
    "tune": ("semroute.cli.tune:tune", "Choose thresholds on labelled queries."),
    "add": ("semroute.cli.change:add", "Add examples to an index without building it again."),
    "remove": ("semroute.cli.change:remove", "Remove a category or examples from an index."),
    "inspect": ("semroute.cli.inspect:inspect", "Show what an index holds and which categories overlap."),
}

_SECTIONS = {
    "Start": ("init", "config", "import", "build-index"),
    "Route": ("route", "rules", "ask", "feedback", "providers"),
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
"""How help groups the commands; those that stand in none come last."""


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    click.echo(f"semroute {__version__}")
    context.exit()


@click.group(
    cls=LazyGroup, targets=_COMMANDS, sections=_SECTIONS, context_settings={"help_option_names": ["-h", "--help"]}
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
        command: what to run; the scripts bring their own.
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
        # click makes one of every KeyboardInterrupt; those of signals have a number.
        ended_by = error.__cause__
        if isinstance(ended_by, Terminated):
            click.echo(f"ended by {ended_by}", err=True)
            return 128 + ended_by.signal
        click.echo("interrupted", err=True)
        return 130
    except Terminated as error:  # between click's end and ours
        return 128 + error.signal
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except OSError as error:  # a full disk under the temporary folder, say
        from semroute.cli.console import print_error

        print_error(f"{error.filename or 'the operating system'}: {error.strerror or error}")
        return 1
    return code if isinstance(code, int) else 0


def _show(error: click.ClickException) -> None:
    """Print an error of usage, whose words may quote an argument that another program has made."""
    from semroute.cli.console import visible

    said = io.StringIO()
    error.show(said)
    click.echo(visible(said.getvalue()), err=True, nl=False)


class _Warnings(logging.Handler):
    """Prints what the library warns of like a command's own warnings: it may quote a provider."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record as one yellow line."""
        from semroute.cli.console import print_warning

        print_warning(self.format(record))


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Print warnings of the library, unless the program that runs this command has set its own logging up."""
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
    """Whoever read our output has gone: keep Python's last flush from complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
