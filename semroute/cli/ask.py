"""``semroute ask``: route a query, call the model, print its answer."""

from __future__ import annotations

import sys
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.console import NumberRange, config_option, index_option, json_option, no_log_option
from semroute.errors import QueryError
from semroute.types import tier_words, total_cost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from semroute.cli.console import AnswerPrinter
    from semroute.config import Config
    from semroute.dispatch import Constraints
    from semroute.outcomes.log import OutcomeLog
    from semroute.router import Router
    from semroute.types import Completion, Decision, Delta, TierResult
    from semroute.types.protocols import OnDelta


@click.command()
@click.argument("query")
@index_option
@config_option
@json_option
@click.option("--model", metavar="NAME", help="Call this model or group, without routing.")
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
    from semroute.cli.console import AnswerPrinter, print_json, print_note, print_text
    from semroute.config import load_config
    from semroute.dispatch import Constraints

    text = _text(query)
    config = load_config(config_path)
    constraints = Constraints(
        model=model,
        deployment=deployment,
        regions=frozenset(regions),
        max_usd=max_usd,
        deadline_s=deadline,
        wants=frozenset(wants),
    )
    with AnswerPrinter() as printer:
        asked = _Asked(text, constraints, stream, no_log, None if as_json else printer)
        completion = asked.answer(config, index, config_path)
        if as_json:
            print_json(as_dict(completion))
            return
        if stream and completion.text:
            printer.end()
        else:
            print_text(completion.text or completion.refusal or "")
    tiers = tier_count(config, completion)
    for trial in completion.tiers:
        print_note(f"  {tier_words(trial.tier, tiers)}, {trial.candidate}: {trial.reason}")
    print_note(summary(completion, tiers))


@dataclass(frozen=True)
class _Asked:
    """Query with its options; ``echo`` takes the pieces of its answer."""

    text: str
    constraints: Constraints
    stream: bool
    no_log: bool
    echo: AnswerPrinter | None

    def answer(self, config: Config, index: Path | None, config_path: Path | None) -> Completion:
        """Return the answer of the pinned model, or of the routed one."""
        from semroute import _sync
        from semroute.cli.encoding import command_log, logging_router
        from semroute.dispatch.status import STATE_FILE

        limits = self.constraints
        if limits.model is not None or limits.deployment is not None:
            with command_log(config, is_wanted=not self.no_log) as log:
                return _sync.run(_last(_direct(self.text, config, limits, self.stream, log), self.echo))
        with logging_router(index, config_path, state_file=STATE_FILE, is_wanted=not self.no_log) as router:
            return _sync.run(_last(_routed(self.text, router, limits, self.stream), self.echo))


def tier_count(config: Config, completion: Completion) -> int | None:
    """Return the number of tiers of a completion's cascade; None without one."""
    if not completion.tiers:
        return None
    category = None if completion.decision is None else completion.decision.category
    own = config.categories.get(category or "")
    cascade = config.cascade if own is None or own.cascade is None else own.cascade
    highest = max(trial.tier for trial in completion.tiers) + 1
    return max(len(cascade.tiers), highest)  # a policy under test may have more


def as_dict(completion: Completion) -> dict[str, object]:
    """Return a completion as JSON-ready values."""
    return {
        "text": completion.text,
        "model": completion.model,
        "deployment": completion.deployment,
        "upstream_model": completion.upstream_model,
        "finish_reason": completion.finish_reason,
        "usage": None if completion.usage is None else asdict(completion.usage),
        "latency_ms": completion.latency_ms,
        "tool_calls": [asdict(call) for call in completion.tool_calls],
        "refusal": completion.refusal,
        "cost_usd": None if completion.total_cost is None else completion.total_cost.usd,
        "cost_is_estimated": completion.total_cost is not None and completion.total_cost.estimated,
        "tier": completion.tier,
        "trials": [_trial(trial) for trial in completion.tiers],
        "outcome_id": completion.outcome_id,
        "attempts": [asdict(attempt) for attempt in completion.attempts],
        "decision": None if completion.decision is None else completion.decision.to_dict(),
    }


def _trial(trial: TierResult) -> dict[str, object]:
    cost = total_cost(trial.attempts)
    return {
        "tier": trial.tier,
        "candidate": trial.candidate,
        "called": trial.completion is not None or bool(trial.attempts),
        "accepted": trial.accepted,
        "reason": trial.reason,
        "checks": [asdict(check) for check in trial.checks],
        "latency_ms": trial.latency_ms,
        "cost_usd": None if cost is None else cost.usd,
    }


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


async def _last(events: AsyncIterator[Delta | Completion], echo: AnswerPrinter | None) -> Completion:
    """Read a stream to its end, printing the answer's pieces as they come."""
    from semroute.types import Delta

    completion: Completion | None = None
    async for event in events:
        if not isinstance(event, Delta):
            completion = event
        elif echo is not None:
            echo.write(event.text)
    assert completion is not None  # dispatch ends with a completion or raises
    return completion


async def _routed(
    text: str, router: Router, constraints: Constraints, stream: bool
) -> AsyncIterator[Delta | Completion]:
    try:
        if not stream:
            yield await router.acomplete(text, constraints=constraints)
            return
        async for event in router.astream(text, constraints=constraints):
            yield event
    finally:
        await router.dispatcher.close()


async def _direct(
    text: str, config: Config, constraints: Constraints, stream: bool, log: OutcomeLog | None
) -> AsyncIterator[Delta | Completion]:
    """Call the pinned model; no index is opened, and no decision is made."""
    from semroute.dispatch import Dispatcher
    from semroute.dispatch.status import STATE_FILE
    from semroute.eventloop import streamed
    from semroute.router.complete import Recorder, pinned_decision
    from semroute.types import Attempt, Request

    started = time.perf_counter()
    dispatcher, request = Dispatcher(config, state_file=STATE_FILE), Request(({"role": "user", "content": text},))
    decision, attempts = pinned_decision(text, constraints, config), list[Attempt]()

    async def call(on_delta: OnDelta | None) -> Completion:
        names = decision.candidates
        return await dispatcher.complete(request, names, constraints, attempts=attempts, on_delta=on_delta)

    async def answer(on_delta: OnDelta | None) -> Completion:
        if log is None:
            return await call(on_delta)
        recorder = Recorder(log, config)
        return await recorder.answered(call, decision, started, made=attempts, on_delta=on_delta)

    try:
        if not stream:
            yield await answer(None)
            return
        async with aclosing(streamed(answer)) as events:
            async for event in events:
                yield event
    finally:
        await dispatcher.close()
