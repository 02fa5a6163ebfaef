"""Installed packages extend semroute: a strategy, a check, an encoder, a provider and a command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from threading import Thread
from typing import Any

import pytest
from plugins.environment import Environment

from semroute.testing import FakeProvider, answer

LOADED = """
import json, os, sys
from semroute.router import Router
Router.load(os.environ.get("index")).route("how do I boil an egg")
print(json.dumps(sorted(name for name in sys.modules if name.startswith("acme"))))
"""


@contextmanager
def talking(reply: bytes, status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server of the format ``acme-wire``, with the requests that it has got."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            body = json.loads(self.rfile.read(length))
            got.append({"path": self.path, "key": self.headers["x-acme-key"], **body})
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def with_index(environment: Environment, built: Path, text: str = "") -> None:
    shutil.copytree(built / ".semroute", environment.folder / ".semroute")
    environment.write(f'encoder: "hashing:512"\nlog: {{enabled: false}}\n{text}')


@pytest.mark.slow
def test_an_index_is_built_and_served_with_the_encoder_of_a_package(acme: Environment, built: Path) -> None:
    manifest = json.loads((built / ".semroute" / "index" / "manifest.json").read_text())
    assert manifest["encoder"] == {
        "kind": "plugin",
        "name": "hashing-512",
        "fingerprint": "acme-hashing-v1-512",
        "dimensions": 512,
        "spec": "hashing:512",
        "package": "acme-encoder 2.0",
    }
    with_index(acme, built)
    done = acme.semroute("route", "--json", "sort a list in python")
    assert (done.returncode, json.loads(done.stdout)["category"]) == (0, "code"), done.stderr
    assert acme.problems() == []


@pytest.mark.slow
def test_an_index_names_the_package_that_is_not_installed(bare: Environment, built: Path) -> None:
    with_index(bare, built)
    done = bare.semroute("route", "how do I boil an egg")
    assert done.returncode == 1
    assert 'the encoder "hashing" is not installed: install the package that provides it' in done.stderr
    assert 'group "semroute.encoders"' in done.stderr
    assert "acme-encoder 2.0" in done.stderr
    (problem,) = bare.problems()
    assert (problem["key"], problem["line"]) == ("encoder", 1)
    assert "built in are onnx, static, multilingual, joined, torch, remote; no plugin adds one" in problem["message"]


@pytest.mark.slow
def test_an_index_asks_for_an_encoder_only_where_the_configuration_names_it(acme: Environment, built: Path) -> None:
    with_index(acme, built)
    acme.write("log: {enabled: false}")
    done = acme.semroute("route", "how do I boil an egg")
    assert done.returncode == 1
    assert 'the encoder "hashing:512" of the package acme-encoder 2.0' in done.stderr
    assert 'encoder: "hashing:512"' in done.stderr
    refused = """
    import json, sys
    from semroute.errors import ArtifactError
    from semroute.router import Router
    try:
        Router.load()
    except ArtifactError:
        print(json.dumps("acme_encoder" in sys.modules))
    """
    assert acme.told(refused) is False
    acme.write('encoder: "hashing:64"')
    assert "which names a different one now" in acme.semroute("route", "how do I boil an egg").stderr
    assert [problem["key"] for problem in acme.problems()] == ["encoder"]


@pytest.mark.slow
def test_an_unknown_encoder_is_refused_with_the_known_ones(acme: Environment) -> None:
    done = acme.semroute("build-index", "--encoder", "hashin:512")
    assert done.returncode == 2
    assert "hashing (acme-encoder 2.0)" in done.stderr
    assert 'did you mean "hashing"?' in done.stderr


STRATEGY = """
strategies: [length, semantic]
length: {chars: 40, use: long-context}
"""


@pytest.mark.slow
def test_a_strategy_of_a_package_decides_by_its_own_options(acme: Environment, built: Path) -> None:
    with_index(acme, built, STRATEGY)
    long, short = (
        json.loads(acme.semroute("route", "--json", query).stdout)
        for query in ("how do I boil an egg " * 4, "how do I boil an egg")
    )
    assert (long["strategy"], long["model"], long["reason"]) == ("length", "long-context", "84 characters are long")
    assert (short["strategy"], short["category"]) == ("semantic", "cooking")
    assert [opinion["strategy"] for opinion in short["opinions"]] == ["length", "semantic"]


@pytest.mark.slow
def test_options_of_a_strategy_are_checked_with_file_line_and_key(acme: Environment) -> None:
    acme.write(
        """\
        strategies: [lenght, length]
        length:
          chars: 0
          char: 3
        """
    )
    done = acme.semroute("config", "check", "--json")
    found = {
        (one["key"], one["line"]): f"{one['message']}; {one['fix']}" for one in json.loads(done.stdout)["problems"]
    }
    assert done.returncode == 1
    assert set(found) == {("strategies.0", 1), ("length.chars", 3), ("length.char", 4), ("length.use", 2)}
    assert 'did you mean "length"?' in found["strategies.0", 1]
    assert "length (acme-strategy 1.2)" in found["strategies.0", 1]
    assert 'group "semroute.strategies"' in found["strategies.0", 1]
    assert found["length.chars", 3].startswith("must be greater than 0")
    assert found["length.char", 4] == 'unknown key; did you mean "chars"?'
    acme.write("strategies: [length]")
    assert 'section of the strategy "length" is missing' in acme.semroute("route", "hello").stderr
    acme.write("length: {chars: 3, use: small}")
    assert "semroute.yaml:1: length: this strategy is not used; name it under strategies" in (
        acme.semroute("route", "hello").stderr
    )


CASCADE = """
deployments:
  - {{name: one, model: small, base_url: "{url}", upstream_model: small, price: {{input: 1, output: 1}}}}
  - {{name: two, model: large, base_url: "{url}", upstream_model: large, price: {{input: 9, output: 9}}}}
fallback: {{models: [small, large]}}
cascade:
  tiers: [small, large]
  accept:
    polite: {options}
"""
ASK = """
import json
from semroute.router import Router
completion = Router.load().complete("how do I boil an egg")
checks = [[(check.check, check.accepted, check.reason) for check in tier.checks] for tier in completion.tiers]
print(json.dumps([completion.model, checks]))
"""


@pytest.mark.slow
def test_a_check_of_a_package_rejects_an_answer_of_a_cascade(acme: Environment, built: Path) -> None:
    with FakeProvider() as provider:
        with_index(acme, built, CASCADE.format(url=provider.base_url, options="{words: [fool]}"))
        provider.script(answer("You fool."), answer("Four minutes."))
        model, (first, second) = acme.told(ASK)
    assert model == "large"
    assert first[-1] == ["polite", False, "rude: fool"]
    assert second == [] or second[-1] == ["polite", True, "polite"]
    assert acme.problems() == []


@pytest.mark.slow
def test_a_check_is_switched_by_true_and_false(acme: Environment, built: Path) -> None:
    with FakeProvider() as provider:
        with_index(acme, built, CASCADE.format(url=provider.base_url, options="true"))
        provider.script(answer("Nonsense."), answer("Four minutes."))
        assert acme.told(ASK)[0] == "large"
        text = (acme.folder / "semroute.yaml").read_text()
        (acme.folder / "semroute.yaml").write_text(text.replace("polite: true", "polite: false"))
        provider.script(answer("Nonsense."))
        assert acme.told(ASK)[0] == "small"
        (acme.folder / "semroute.yaml").write_text(text.replace("polite: true", "polit: true"))
    (problem,) = acme.problems()
    assert problem["key"] == "cascade.accept.polit"
    assert 'did you mean "polite"?' in problem["fix"]


PROVIDER = """
deployments:
  - {{name: acme, model: small, format: acme-wire, base_url: "{url}", api_key_env: ACME_KEY,
      options: {{tone: "{tone}"}}, price: {{input: 1, output: 1}}}}
fallback: {{models: [small]}}
"""


@pytest.mark.slow
def test_a_deployment_speaks_the_format_of_a_package(acme: Environment, built: Path) -> None:
    with talking(b'{"answer": "Four minutes.", "in": 7, "out": 3}') as (url, got):
        with_index(acme, built, PROVIDER.format(url=url, tone="dry"))
        done = acme.semroute("ask", "--json", "how do I boil an egg", ACME_KEY="acme-secret")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        probed = json.loads(acme.semroute("providers", "check", "--json", ACME_KEY="acme-secret").stdout)
    assert (said["text"], said["deployment"], said["usage"]["input_tokens"]) == ("Four minutes.", "acme", 7)
    assert got[0] == {
        "path": "/talk",
        "key": "acme-secret",
        "model": "small",
        "say": ["how do I boil an egg"],
        "tone": "dry",
    }
    assert len(got) == 2, probed
    assert acme.problems() == []


@pytest.mark.slow
def test_a_failure_of_a_package_s_format_is_reported_without_the_key(acme: Environment, built: Path) -> None:
    with talking(b'{"answer": 3}') as (url, _):
        with_index(acme, built, PROVIDER.format(url=url, tone="dry") + "retries: {attempts: 1}\n")
        done = acme.semroute("ask", "how do I boil an egg", ACME_KEY="acme-secret")
    assert done.returncode == 1
    assert "acme answered without text" in done.stderr
    assert "acme-secret" not in done.stderr + done.stdout


@pytest.mark.slow
def test_a_format_that_lacks_tools_gets_no_request_with_tools(acme: Environment, built: Path) -> None:
    program = """
    import json
    from semroute.errors import DispatchError
    from semroute.router import Router
    from semroute.types import Request, Tool

    request = Request(({"role": "user", "content": "how do I boil an egg"},), tools=(Tool("timer", "", {}),))
    try:
        Router.load().complete(request)
    except DispatchError as error:
        print(json.dumps(str(error)))
    """
    with talking(b'{"answer": "Four minutes.", "in": 7, "out": 3}') as (url, got):
        with_index(acme, built, PROVIDER.format(url=url, tone="dry"))
        assert "acme-wire does not carry tools" in acme.told(program, ACME_KEY="acme-secret")
    assert got == []


@pytest.mark.slow
def test_a_deployment_needs_an_address_and_known_options(acme: Environment) -> None:
    acme.write(
        """\
        deployments:
          - {name: a, model: m, format: acme-wire}
          - {name: b, model: m, format: acme-wir, base_url: "http://localhost:1"}
          - {name: c, model: m, format: acme-wire, base_url: "http://localhost:1", options: {tone: 3}}
          - {name: d, model: m, options: {tone: dry}}
        """
    )
    found = {problem["key"]: (problem["line"], problem["message"], problem["fix"]) for problem in acme.problems()}
    assert found["deployments.0.base_url"][1] == 'is missing: the format "acme-wire" has no address of its own'
    assert found["deployments.1.format"][0] == 3
    assert 'did you mean "acme-wire"?' in found["deployments.1.format"][2]
    assert found["deployments.2.options.tone"] == (4, "must be text", "put it in quotes")
    assert found["deployments.3.options"][1] == 'the format "openai" takes none'


@pytest.mark.slow
def test_a_command_of_a_package_is_listed_and_runs(acme: Environment) -> None:
    listed = acme.semroute("--help")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "Command of the package acme-command 1.0." in listed.stdout
    done = acme.semroute("greet", "you")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello you\n", "")
    assert "Greet somebody." in acme.semroute("greet", "--help").stdout
    refused = acme.semroute("greet", "nobody")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "name somebody" in refused.stderr
    assert 'Did you mean "greet"?' in acme.semroute("gret").stderr


@pytest.mark.slow
def test_nothing_of_a_package_is_imported_unless_it_is_used(acme: Environment, built: Path) -> None:
    with_index(acme, built)
    assert acme.told(LOADED) == ["acme_encoder"]
    listing = """
    import json, sys
    from semroute.cli.main import main
    main(["--help"])
    print(json.dumps(sorted(name for name in sys.modules if name.startswith("acme"))))
    """
    assert acme.told(listing) == []


@pytest.mark.slow
def test_routing_without_plugins_does_not_look_for_any(acme: Environment, routing_index: Path) -> None:
    acme.write("strategies: [semantic]\nlog: {enabled: false}\n")
    looks_for_none = """
    import semroute.plugins

    def refused(*arguments):
        raise AssertionError("it looked for plugins")

    semroute.plugins.installed = semroute.plugins._installed = refused
    """
    assert acme.told(f"{dedent(looks_for_none)}\n{dedent(LOADED)}", index=str(routing_index)) == []


@pytest.mark.slow
def test_what_decides_without_plugins_imports_no_reader_of_metadata(acme: Environment, routing_index: Path) -> None:
    program = """
    import json, sys
    from semroute.config import Config
    from semroute.router import Router
    Router.load(sys.argv[1], config=Config.default()).route("how do I boil an egg")
    print(json.dumps("importlib.metadata" in sys.modules))
    """
    assert acme.told(program.replace("sys.argv[1]", repr(str(routing_index)))) is False
