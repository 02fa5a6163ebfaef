from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import semroute
import semroute.errors

HEAVY = ("torch", "sentence_transformers", "faiss", "onnxruntime", "numpy", "pydantic", "httpx", "sklearn")
TIMED = """
import sys, time
start = time.perf_counter()
import semroute
dir(semroute)
print(time.perf_counter() - start)
print(*[name for name in %r if name in sys.modules])
"""
PROMISED = {
    "Completion", "Config", "Constraints", "Decision", "Delta", "Message", "Request", "Router", "Tool", "__version__",
    "load_config", "route",
}  # fmt: skip
"""The public names that are not errors."""

PROGRAM = '''
"""A program that uses every public name as its type says."""

import asyncio
from collections.abc import Callable

import httpx

from semroute import (
    AllClosedError, ArtifactBusyError, ArtifactError, AuthenticationError, BrokenStreamError, CapabilityError,
    Completion, Config, ConfigError, Constraints, ContentFilterError, ContextLengthError, DataError, DeadlineError,
    Decision, Delta, DispatchError, EmptyAnswerError, EncoderError, InputError, MalformedResponseError, Message,
    MissingExtraError, NoDeploymentError, OverloadedError, ProviderTimeoutError, QueryError, QuotaError,
    RateLimitError, Request, RequestError, Router, SemrouteError, StateError, Tool, UnavailableError, __version__,
    load_config, route,
)

ERRORS: list[type[SemrouteError]] = [
    AllClosedError, ArtifactBusyError, ArtifactError, AuthenticationError, BrokenStreamError, CapabilityError,
    ConfigError, ContentFilterError, ContextLengthError, DataError, DeadlineError, DispatchError, EmptyAnswerError,
    EncoderError, InputError, MalformedResponseError, MissingExtraError, NoDeploymentError, OverloadedError,
    ProviderTimeoutError, QueryError, QuotaError, RateLimitError, RequestError, StateError, UnavailableError,
]
config: Config = load_config()
messages: tuple[Message, ...] = ({"role": "user", "content": "weather in Paris?"},)
weather = Tool("weather", "Return the weather of a city.", {"type": "object", "properties": {"city": {}}})
request = Request(messages, tools=(weather,))
client: Callable[[], httpx.AsyncClient] = httpx.AsyncClient
version: str = __version__


def answer(router: Router) -> str:
    completion: Completion = router.complete(request, constraints=Constraints(deadline_s=3.0), model="small")
    if completion.decision is None:
        return ""
    decision: Decision = completion.decision
    return decision.model + "".join(call.name for call in completion.tool_calls)


def pieces(router: Router) -> list[str]:
    return [event.text for event in router.stream(request) if isinstance(event, Delta)]


async def main() -> None:
    async with Router.load(config=config, env={"KEY": "x"}, http_client=client, clock=lambda: 1.0) as router:
        events: list[Delta | Completion] = [event async for event in router.astream("hello")]
        print(events, await router.acomplete(request))


with Router.from_examples({"code": ["fix it"]}, {"code": "coder"}, fallback=["small"], config=config) as built:
    try:
        print(answer(built), pieces(built), route("hello").model)
    except RateLimitError as error:
        print(error.wait_s)
asyncio.run(main())
'''


@pytest.mark.slow
@pytest.mark.torch(needed=False)
def test_importing_semroute_takes_no_time_and_brings_nothing_heavy() -> None:
    found = [
        subprocess.run([sys.executable, "-c", TIMED % (HEAVY,)], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    assert [text.splitlines()[1] for text in found] == ["", "", ""]
    assert min(float(text.splitlines()[0]) for text in found) < 0.3


def test_the_public_names_are_the_promised_ones_and_every_error() -> None:
    errors = {
        name
        for name, found in vars(semroute.errors).items()
        if isinstance(found, type) and issubclass(found, semroute.errors.SemrouteError) and not name.startswith("_")
    }
    assert set(semroute.__all__) == PROMISED | errors
    assert semroute.__version__.count(".") == 2


def test_each_public_name_is_the_object_that_its_module_holds() -> None:
    for name in semroute.__all__:
        found = getattr(semroute, name)
        if isinstance(found, type):
            assert getattr(sys.modules[found.__module__], name) is found


def test_dir_lists_the_public_names_and_no_others_whatever_was_imported() -> None:
    assert dir(semroute) == sorted(semroute.__all__)


@pytest.mark.slow
def test_a_star_import_brings_all_public_names() -> None:
    program = "from semroute import *\nimport semroute\nassert set(semroute.__all__) <= set(globals())"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'roote'"):
        semroute.roote  # noqa: B018


@pytest.mark.slow
def test_a_strictly_typed_program_needs_no_import_but_semroute(tmp_path: Path) -> None:
    """Names that load late are visible to a type checker, and so are the types of their arguments and results."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "program.py").write_text(PROGRAM)
    # With the project's settings and its cache, so that only the program has to be checked after `mypy`.
    told = subprocess.run(
        [sys.executable, "-m", "mypy", str(tmp_path / "program.py")],
        cwd=Path(semroute.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr


QUICKSTART = """
import sys
from semroute import Config, Request, Router, Tool

place = {"name": "small-1", "model": "small", "base_url": sys.argv[1]}
city = {"type": "object", "properties": {"city": {"type": "string"}}}
weather = Tool("weather", "Return the weather of a city.", city)
examples = {
    "weather": ["will it rain tomorrow", "weather in Paris", "how cold is it outside", "is it sunny", "wind today"],
    "cooking": ["boil an egg", "recipe for soup", "knead bread", "season a pan", "replace butter in a cake"],
}
config = Config.model_validate({"deployments": [place]})
models = {"weather": "small", "cooking": "small"}
with Router.from_examples(examples, models, fallback="small", config=config) as router:
    request = Request(({"role": "user", "content": "weather in Rome"},), tools=(weather,), tool_choice="required")
    (call,) = router.complete(request).tool_calls
    print(call.name)
"""


@pytest.mark.slow
def test_a_program_that_calls_a_model_with_tools_needs_one_import(tmp_path: Path) -> None:
    from semroute.testing import FakeProvider

    with FakeProvider() as provider:
        told = subprocess.run(
            [sys.executable, "-W", "error", "-c", dedent(QUICKSTART), provider.base_url],
            cwd=tmp_path,
            env={**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(Path(semroute.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (told.returncode, told.stdout.strip(), told.stderr) == (0, "weather", "")
    assert list(tmp_path.iterdir()) == []
