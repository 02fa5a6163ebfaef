"""``semroute ask``: route a query, call the model, print its answer."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import config_option, index_option, json_option
from semroute.errors import QueryError

if TYPE_CHECKING:
    from semroute.config import Config
    from semroute.types import Completion


@click.command()
@click.argument("query")
@index_option
@config_option
@json_option
@click.option("--model", metavar="NAME", help="Call this logical model, without routing.")
def ask(query: str, index: Path | None, config_path: Path | None, as_json: bool, model: str | None) -> None:
    """Route QUERY, call the model that it goes to, and print the answer.

    QUERY "-" is read from standard input. The answer goes to standard output; category, model, tokens and time go to
    standard error.
    """
    from semroute.cli.console import print_json, print_note, print_text
    from semroute.config import load_config

    text = _text(query)
    config = load_config(config_path)
    completion = _routed(text, index, config) if model is None else _direct(text, model, config)
    if as_json:
        print_json(as_dict(completion))
    else:
        print_text(completion.text)
        print_note(summary(completion))


def as_dict(completion: Completion) -> dict[str, object]:
    """A completion as JSON-ready values."""
    return {
        "text": completion.text,
        "model": completion.model,
        "deployment": completion.deployment,
        "upstream_model": completion.upstream_model,
        "finish_reason": completion.finish_reason,
        "usage": None if completion.usage is None else asdict(completion.usage),
        "latency_ms": completion.latency_ms,
        "attempts": [asdict(attempt) for attempt in completion.attempts],
        "decision": None if completion.decision is None else completion.decision.to_dict(),
    }


def summary(completion: Completion) -> str:
    """One line for a person: category, model, deployment, tokens, time."""
    decision, usage = completion.decision, completion.usage
    routed = [] if decision is None else [decision.category or "no category (fallback)"]
    tokens = "tokens not counted" if usage is None else f"{usage.input_tokens} + {usage.output_tokens} tokens"
    place = f"{completion.deployment} ({completion.upstream_model})"
    return " · ".join([*routed, completion.model, place, tokens, f"{completion.latency_ms:.0f} ms"])


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


def _routed(text: str, index: Path | None, config: Config) -> Completion:
    from semroute.router import Router

    return Router.load(index, config=config).complete(text)


def _direct(text: str, model: str, config: Config) -> Completion:
    from semroute import bridge, dispatch
    from semroute.types import Request

    return bridge.run(dispatch.complete(Request(({"role": "user", "content": text},)), (model,), config))
