"""Outcomes that nobody has judged, as ``semroute collect`` writes them, handed to what needs a quality."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.cli.main import main

pytestmark = pytest.mark.usefixtures("chosen_index")

COMMANDS = (
    ("train", "--out", "made"),
    ("tune-policy", "--min-quality", "0.9", "--out", "made"),
    ("evaluate-policy",),
    ("train-checks", "--out", "made"),
)


def outcomes(judged: int, models: tuple[str, ...] = ("small", "large")) -> str:
    """80 queries of which all models' answers are there, and the first ones judged of the named models."""
    with Path("outcomes.jsonl").open("w") as file:
        for number in range(80):
            cells = {
                model: {"quality": 1.0 if number < judged and model in models else None, "cost_usd": 0.001,
                        "input_tokens": 3, "output_tokens": 4, "response": f"{model} {number}"}
                for model in ("small", "large")
            }  # fmt: skip
            file.write(json.dumps({"query": f"question {number}", "outcomes": cells}) + "\n")
    return "outcomes.jsonl"


def error(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    name, *options = command
    assert main([name, "outcomes.jsonl", *options]) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_outcomes_that_nobody_has_judged_are_sent_to_be_judged(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes(judged=0)
    said = error(capsys, *command)
    assert "the answers are not judged; judge them with semroute label" in said
    assert "missing models" not in said
    assert "more outcomes" not in said


@pytest.mark.parametrize(
    ("command", "judged", "models", "count"),
    [
        (COMMANDS[0], 10, ("small", "large"), 140),
        (COMMANDS[0], 80, ("small",), 80),
        (COMMANDS[1], 80, ("small",), 80),
        (COMMANDS[2], 80, ("small",), 80),
        (COMMANDS[3], 10, ("small", "large"), 140),
    ],
)
def test_where_some_are_judged_the_others_are_named_first_among_the_remedies(
    command: tuple[str, ...], judged: int, models: tuple[str, ...], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes(judged, models)
    assert f"judge the {count} answers that have no quality yet (semroute label), " in error(capsys, *command)
