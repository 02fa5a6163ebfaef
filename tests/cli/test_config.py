from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from semroute.cli.main import cli


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def run(*arguments: str) -> Result:
    done = CliRunner().invoke(cli, ["config", "check", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done


def report(*arguments: str) -> dict[str, object]:
    done = run("--json", *arguments)
    value = json.loads(done.output)
    assert isinstance(value, dict)
    assert value["ok"] == (done.exit_code == 0)
    return value


def index_with(folder: Path, categories: object) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "categories": categories}))


def test_what_init_writes_passes_with_a_note_on_the_key() -> None:
    CliRunner().invoke(cli, ["init"])
    done = run()
    assert done.exit_code == 0
    assert "semroute.yaml: valid" in done.output
    assert "OPENAI_API_KEY" in done.output


def test_with_the_key_set_what_init_writes_has_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    CliRunner().invoke(cli, ["init"])
    assert report() == {"path": "semroute.yaml", "ok": True, "problems": []}


def test_a_folder_without_a_file_is_told_of_init() -> None:
    problems = report()["problems"]
    assert isinstance(problems, list)
    assert len(problems) == 1, "a file that is not there names no deployments either"
    assert 'write one with "semroute init"' in problems[0]["fix"]
    assert run().exit_code == 1


def test_every_problem_of_the_file_is_shown_with_its_line() -> None:
    Path("semroute.yaml").write_text("indx: a\nfallback:\n  models: small\n")
    assert report()["problems"] == [
        {
            "severity": "error",
            "key": "indx",
            "line": 1,
            "message": "unknown key",
            "fix": 'did you mean "index"?',
        },
        {
            "severity": "error",
            "key": "fallback.models",
            "line": 3,
            "message": "must be a list",
            "fix": "write it like [first, second]",
        },
    ]
    done = run()
    assert done.exit_code == 1
    assert "fallback.models (line 3)" in done.output
    assert "not usable yet" in done.output


def test_the_categories_of_the_index_are_compared() -> None:
    Path("semroute.yaml").write_text(
        "index: idx\ndeployments:\n  - {name: a, model: large, upstream_model: gpt-4o}\n"
        "categories:\n  cod: {threshold: 0.0}\n"
    )
    problems = report()["problems"]
    assert isinstance(problems, list)
    assert [(p["severity"], p["key"], p["line"]) for p in problems] == [("warning", "index", 1)]
    index_with(Path("idx"), {"code": {"models": ["coder"]}, "law": {"models": ["medium", "large"]}})
    problems = report()["problems"]
    assert isinstance(problems, list)
    assert [(p["severity"], p["key"]) for p in problems] == [
        ("error", "deployments"),
        ("error", "categories.cod"),
        ("warning", "deployments"),
    ]


def test_a_deployment_without_a_price_and_a_model_without_a_context_are_warnings() -> None:
    Path("semroute.yaml").write_text('deployments:\n  - {name: a, model: large, base_url: "http://localhost/v1"}\n')
    problems = report()["problems"]
    assert isinstance(problems, list)
    assert [(p["severity"], p["key"]) for p in problems] == [("warning", "deployments.0"), ("warning", "models.large")]
    assert "price" in problems[0]["fix"]
    assert "context" in problems[1]["fix"]


def test_another_index_can_be_named() -> None:
    Path("semroute.yaml").write_text("deployments:\n  - {name: a, model: large}\n")
    index_with(Path("other"), {"code": {"models": ["coder"]}})
    assert report()["ok"] is True
    assert report("--index", "other")["ok"] is False
    assert "--index: there is no index in nowhere" in " ".join(run("--index", "nowhere").output.split())


@pytest.mark.parametrize("content", ["{", "[]", '{"categories": [1]}', '{"categories": {"a": 1}}', "\\xff"])
def test_a_manifest_that_cannot_be_read_is_a_warning(content: str) -> None:
    Path("semroute.yaml").write_text("index: idx\ndeployments:\n  - {name: a, model: large, upstream_model: gpt-4o}\n")
    Path("idx").mkdir()
    Path("idx/manifest.json").write_text(content)
    problems = report()["problems"]
    assert isinstance(problems, list)
    assert [(p["severity"], p["key"], p["fix"]) for p in problems] == [("warning", "index", "build the index again")]


def test_a_named_file_that_is_missing_is_an_error() -> None:
    done = CliRunner().invoke(cli, ["config", "check", "--config", "none.yaml"])
    assert "none.yaml: no such file" in str(done.exception)


def test_a_classifier_of_queries_that_is_not_there_is_named() -> None:
    Path("semroute.yaml").write_text("classifier: nowhere\n")
    done = run()
    assert done.exit_code != 0
    assert "classifier.folder" in done.output
    Path("semroute.yaml").write_text("classifier: nowhere\nstrategies: [semantic]\n")
    assert "it is not used" in " ".join(run().output.split())


def test_a_policy_on_trial_that_cannot_be_used_is_named() -> None:
    Path("semroute.yaml").write_text("trial: {policy: policy.yaml}\n")
    assert "trial.policy" in run().output
    Path("policy.yaml").write_text("strategies: [guess]\n")
    done = run()
    assert done.exit_code != 0
    assert "policy.yaml:1" in "".join(done.output.split())
    Path("policy.yaml").write_text("strategies: [rules]\n")
    assert "trial.policy" not in run().output


def test_an_encoder_that_the_index_asks_for_and_the_file_does_not_name_is_an_error_with_its_line() -> None:
    index = Path(".semroute/index")
    index.mkdir(parents=True)
    described = {"kind": "remote", "base_url": "https://host/v1", "model": "m", "api_key_env": "KEY"}
    (index / "manifest.json").write_text(json.dumps({"format": 1, "categories": {}, "encoder": described}))
    Path("semroute.yaml").write_text("models: {large: {}}\n")

    def of_encoder() -> list[dict[str, str]]:
        problems = report()["problems"]
        assert isinstance(problems, list)
        return [problem for problem in problems if problem["key"] == "encoder"]

    (problem,) = of_encoder()
    assert (problem["severity"], problem["message"]) == (
        "error",
        "the index asks for a remote encoder that is not named here",
    )
    Path("semroute.yaml").write_text(problem["fix"].removeprefix("if you trust it: "))
    assert of_encoder() == []
