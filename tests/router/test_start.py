"""What a cold start imports: deciding needs neither HTTP, wire formats, databases nor a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import semroute
from semroute import dispatch

ANSWERING = (
    "httpx",
    "semroute.http_client",
    "semroute.dispatch.dispatcher",
    "semroute.providers",
    "semroute.resilience",
    "semroute.catalog",
    "genai_prices",
    "asyncio",
    "ssl",
)
"""What calls models."""

CHECKS = (
    "jsonschema",
    "referencing",
    "re2",
    "semroute.cascade.format",
    "semroute.predictors.query_quality",
)
"""What checks their answers."""

REST = (
    "sqlalchemy",
    "alembic",
    "semroute.outcomes.log",
    "rich",
    "click",
    "yaml",
    "filelock",
    "numpy.random",
    "semroute.learn",
    "semroute.encoders.minilm",
    "semroute.encoders.quantize",
    "semroute.strategies.classifier",
    "semroute.strategies.judge",
    "semroute.strategies.rules",
    "onnx",
    "torch",
    "sklearn",
    "sentence_transformers",
)
"""Logs, terminals, files that are written, strategies that are not configured, and whatever builds an index."""

CONFIGURED = """
models:
  small: {price: {input: 0.1, output: 0.2}}
deployments:
  - {name: here, model: small, provider: openai, upstream_model: gpt-small, api_key_env: SOME_KEY}
fallback: {models: [small]}
"""


def modules_after(program: str, folder: Path, *arguments: object) -> dict[str, str]:
    """The modules of a fresh process after a program; the values are what it has put into ``told``."""
    end = "\nimport json, sys\nprint(json.dumps([sorted(sys.modules), globals().get('told')]))\n"
    root = Path(semroute.__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(program) + end, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    modules, told = json.loads(ended.stdout.splitlines()[-1])
    return {**dict.fromkeys(modules, ""), "told": told}


def loaded(names: tuple[str, ...], modules: dict[str, str]) -> list[str]:
    return [name for name in names if name in modules]


@pytest.mark.slow
def test_the_router_is_imported_without_what_deciding_does_not_need(tmp_path: Path) -> None:
    modules = modules_after("from semroute import Router", tmp_path)
    assert "semroute.router.router" in modules
    assert loaded((*ANSWERING, *CHECKS, *REST), modules) == []
    assert loaded(("onnxruntime", "tokenizers", "faiss"), modules) == []


DECIDE = """
import sys
from semroute import Router
told = Router.load(sys.argv[1]).route("def f(x): return x + 1").model
"""


@pytest.mark.slow
def test_a_decision_is_made_without_what_calls_models(routing_index: Path, tmp_path: Path) -> None:
    modules = modules_after(DECIDE, tmp_path, routing_index)
    assert modules["told"]
    assert "onnxruntime" in modules
    assert loaded((*ANSWERING, *CHECKS, *REST, "faiss"), modules) == []


@pytest.mark.slow
def test_models_that_could_be_called_are_not_loaded_for_a_decision(routing_index: Path, tmp_path: Path) -> None:
    (tmp_path / "semroute.yaml").write_text(CONFIGURED)
    modules = modules_after(DECIDE, tmp_path, routing_index)
    assert loaded((*ANSWERING, *CHECKS), modules) == []
    assert loaded(tuple(name for name in REST if name != "yaml"), modules) == []


@pytest.mark.slow
def test_only_the_configured_strategies_are_loaded(routing_index: Path, tmp_path: Path) -> None:
    (tmp_path / "semroute.yaml").write_text(
        CONFIGURED + "rules: [{name: greeting, when: {keywords: [hello]}, use: [small]}]\n"
    )
    modules = modules_after(DECIDE, tmp_path, routing_index)
    assert "semroute.strategies.rules" in modules
    assert loaded(("semroute.strategies.judge", "semroute.strategies.classifier", "httpx"), modules) == []


@pytest.mark.slow
def test_what_calls_models_is_imported_beside_the_event_loop(routing_index: Path, tmp_path: Path) -> None:
    """An import of a quarter of a second on the loop would hold up every other query of a server."""
    program = """
    import asyncio, sys, threading
    from semroute import Router
    from semroute.errors import NoDeploymentError

    class Watch:
        threads = []
        def find_spec(self, name, path=None, target=None):
            if name in ("httpx", "semroute.providers"):
                self.threads.append(threading.current_thread() is threading.main_thread())

    sys.meta_path.insert(0, Watch())
    router = Router.load(sys.argv[1])

    async def main():
        try:
            await router.acomplete("how do I boil an egg")
        except NoDeploymentError:
            return
        raise AssertionError("nothing can answer")

    asyncio.run(main())
    told = Watch.threads
    """
    told = modules_after(program, tmp_path, routing_index)["told"]
    assert list(told) == [False, False]


@pytest.mark.slow
@pytest.mark.parametrize("is_json", [False, True])
def test_the_command_route_loads_no_more_than_it_shows(routing_index: Path, tmp_path: Path, is_json: bool) -> None:
    (tmp_path / "semroute.yaml").write_text("log: {enabled: false}\n")
    program = """
    import sys
    from semroute.cli.main import main
    told = main(["route", "--index", *sys.argv[1:], "def f(x): return x + 1"])
    """
    modules = modules_after(program, tmp_path, routing_index, *(["--json"] if is_json else []))
    assert modules["told"] == 0
    shown = {"rich", "click", "yaml"}
    assert loaded((*ANSWERING, *CHECKS, *(name for name in REST if name not in shown)), modules) == []


@pytest.mark.slow
def test_help_loads_the_command_line_alone(tmp_path: Path) -> None:
    modules = modules_after("from semroute.cli.main import main\ntold = main(['--help'])", tmp_path)
    assert modules["told"] == 0
    assert loaded(("numpy", "pydantic", "rich", *ANSWERING), modules) == []


def test_names_that_load_late_are_listed_and_others_are_refused() -> None:
    assert {"Constraints", "Dispatcher"} <= set(dir(dispatch))
    assert dispatch.Dispatcher.__name__ == "Dispatcher"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = dispatch.Nothing
