"""The test double plays a judge: it answers with a number alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from semroute.cli.main import cli
from semroute.config import Config
from semroute.router import Router
from semroute.testing import FakeProvider, number
from semroute.testing.__main__ import main
from semroute.testing.answers import instance
from semroute.testing.replies import reply

FORMATS = ("openai", "anthropic", "gemini", "responses")


def address(provider: FakeProvider, format: str) -> str:
    return {
        "openai": provider.base_url,
        "anthropic": provider.anthropic_url,
        "gemini": provider.gemini_url,
        "responses": provider.base_url,
    }[format]


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("capabilities", [["json_schema"], []], ids=["as JSON", "as text"])
@pytest.mark.parametrize(("place", "chosen"), [(1, "small"), (2, "large")])
def test_the_judge_of_a_router_chooses_the_candidate_of_that_number(
    format: str, capabilities: list[str], place: int, chosen: str, routing_index: Path
) -> None:
    with FakeProvider() as provider:
        provider.always(reply(f"number:{place}"))
        places = [
            {"name": name, "model": name, "format": format, "base_url": address(provider, format)}
            for name in ("small", "large")
        ]
        config = Config.model_validate(
            {
                "models": {"small": {"capabilities": capabilities}, "large": {}},
                "deployments": places,
                "strategies": ["judge"],
                "judge": {"model": "small", "candidates": ["small", "large"], "max_usd": None},
            }
        )
        decision = Router.load(routing_index, config=config).route("write a sorting function")
        assert decision.model == chosen
        (opinion,) = [opinion for opinion in decision.opinions if opinion.strategy == "judge"]
        assert opinion.kind == "decided", opinion.reason


@pytest.mark.parametrize("capabilities", ["json_schema", ""], ids=["as JSON", "as text"])
def test_the_judge_of_label_grades_with_that_number(
    capabilities: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answers = {"small": {"response": "4", "quality": None}, "large": {"response": "5", "quality": None}}
    Path("answers.jsonl").write_text(json.dumps({"query": "2 + 2?", "outcomes": answers}) + "\n")
    with FakeProvider() as provider:
        provider.always(number(7))
        Path("semroute.yaml").write_text(
            f"models: {{judge: {{capabilities: [{capabilities}]}}}}\n"
            f"deployments: [{{name: j, model: judge, base_url: {provider.base_url}}}]\n"
        )
        done = CliRunner().invoke(cli, ["label", "answers.jsonl", "--out", "golden.jsonl", "--judge", "judge"])
    assert done.exit_code == 0, done.output
    (row,) = map(json.loads, Path("golden.jsonl").read_text().splitlines())
    assert {model: cell["quality"] for model, cell in row["outcomes"].items()} == {"small": 0.7, "large": 0.7}


def test_a_schema_without_a_place_for_the_number_gets_what_it_allows() -> None:
    schema = {
        "type": "object",
        "properties": {
            "grade": {"type": "integer", "minimum": 0, "maximum": 5},
            "pick": {"enum": ["1", "9"]},
            "odd": {"type": "number", "exclusiveMaximum": 3},
            "why": {"type": "string"},
        },
        "required": ["grade", "pick", "odd", "why"],
    }
    assert instance(schema, 9) == {"grade": 0, "pick": "9", "odd": 0, "why": "text"}
    assert instance(schema, 2) == {"grade": 2, "pick": "1", "odd": 2, "why": "text"}


def test_the_help_says_how_to_play_a_judge(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "number:1" in said
    assert "label --judge" in said


def test_a_misspelt_reply_is_told_the_near_one() -> None:
    with pytest.raises(ValueError, match='did you mean "number"'):
        reply("nubmer:1")
