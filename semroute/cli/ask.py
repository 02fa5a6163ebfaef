"""``semroute ask``: route a query, call the model, print its answer."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.console import NumberRange, config_option, index_option, json_option, no_log_option, prefer_option
from semroute.errors import QueryError
from semroute.types import tier_words

if TYPE_CHECKING:
    from semroute.dispatch.constraints import Preference
    from semroute.types import Completion, Decision


@click.command()
@click.argument("query")
@index_option
@config_option
@json_option
@click.option("--model", metavar="NAME", help="Call this model or group, without routing.")
@prefer_option
@click.option("--deployment", metavar="NAME", help="Call this deployment, without routing.")
@click.option("--region", "regions", metavar="NAME", multiple=True, help="Only deployments there; may be repeated.")
@click.option("--max-usd", type=NumberRange(0), metavar="USD", help="Highest cost of one attempt.")
@click.option("--deadline", type=NumberRange(0, min_open=True), metavar="SECONDS", help="Longest time for it all.")
@click.option(
    "--wants", multiple=True, metavar="STRENGTH", help="Prefer models strong in it, such as reasoning (repeatable)."
)
@click.option("--stream", is_flag=True, help="Print the answer as it arrives.")
@no_log_option
def ask(
    query: str,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    model: str | None,
    prefer: Preference | None,
    deployment: str | None,
    regions: tuple[str, ...],
    max_usd: float | None,
    deadline: float | None,
    wants: tuple[str, ...],
    stream: bool,
    no_log: bool,
) -> None:
    """Route QUERY, call the model that it goes to, and print the answer.

    QUERY "-" is read from standard input. The answer goes to standard output; category, model, tokens and time go to
    standard error.
    """
    from semroute.cli.console import AnswerPrinter, print_json, print_note, print_text, shown_work
    from semroute.config import load_config
    from semroute.dispatch import Constraints
    from semroute.workflows.answer import answer_query, tier_count
    from semroute.workflows.workspace import Workspace

    text = _text(query)
    workspace = Workspace(index, load_config(config_path))
    constraints = Constraints(
        model=model,
        deployment=deployment,
        regions=frozenset(regions),
        max_usd=max_usd,
        deadline_s=deadline,
        wants=frozenset(wants),
        preference=prefer or "balanced",
    )
    with AnswerPrinter() as printer, ExitStack() as bars:
        progress, warn = bars.enter_context(shown_work())

        def echo(piece: str) -> None:
            bars.close()  # a bar would be drawn over the answer
            printer.write(piece)

        completion = answer_query(
            text, workspace, constraints, stream=stream, on_delta=None if as_json else echo, is_logged=not no_log,
            progress=progress, warn=warn,
        )  # fmt: skip
        bars.close()
        if as_json:
            print_json(completion.to_dict())
            return
        if stream and completion.text:
            printer.end()
        else:
            print_text(completion.text or completion.refusal or "")
    tiers = tier_count(workspace.config, completion)
    for result in completion.tiers:
        print_note(f"  {tier_words(result.tier, tiers)}, {result.label}: {result.reason}")
    print_note(summary(completion, tiers))


def summary(completion: Completion, tiers: int | None = None) -> str:
    """Return a one-line summary of a completion.

    It has category, tier of how many, model, deployment, tokens and time.
    """
    decision, usage = completion.decision, completion.usage
    routed = [] if decision is None else [_routed_by(decision)]
    tokens = "tokens not counted" if usage is None else f"{usage.input_tokens} + {usage.output_tokens} tokens"
    place = f"{completion.deployment} ({completion.upstream_model})"
    cost = completion.total_cost
    failed = sum(attempt.error_kind not in (None, "Abandoned") for attempt in completion.attempts)
    price = [] if cost is None else [f"{'about ' if cost.estimated else ''}{cost.usd:.6f} USD"]
    tries = [f"after {failed} failed {'attempt' if failed == 1 else 'attempts'}"] if failed else []
    tier = [] if completion.tier is None else [tier_words(completion.tier, tiers)]
    return " · ".join(
        [*routed, *tier, completion.model, place, tokens, *price, f"{completion.latency_ms:.0f} ms", *tries]
    )


def _routed_by(decision: Decision) -> str:
    """Return the category, or else the strategy that decided."""
    if decision.category is not None:
        return decision.category
    return "no category (fallback)" if decision.is_fallback else f"by {decision.strategy}"


def _text(query: str) -> str:
    text = query if query != "-" else _standard_input()
    if not text.strip():
        raise QueryError("the query is empty")
    return text


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QueryError(f"standard input is not UTF-8 text (byte {error.start})") from None
