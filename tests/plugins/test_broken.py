"""Plugins that cannot be used: an error names distribution, entry point and fix, and the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plugins.environment import Environment

from semroute.plugins import Plugin, PluginError, make, sole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unimportable", "cannot be imported: ModuleNotFoundError: No module named 'broken_missing'"),
        ("absent", "cannot be imported: AttributeError: module 'broken_semroute' has no attribute 'Absent'"),
        ("number", "is a int, and not a class or function that can be called"),
        ("optioned", "has Options that are no pydantic model"),
    ],
)
def test_a_strategy_that_cannot_be_used_is_refused_where_it_is_named(broken: Environment, name: str, said: str) -> None:
    broken.write(f"strategies:\n  - semantic\n  - {name}\n")
    (problem,) = broken.problems()
    assert (problem["key"], problem["line"]) == ("strategies.1", 3)
    assert (
        f'the strategy "{name}" of the package broken-semroute 0.1 (entry point "{name} = broken_' in problem["message"]
    )
    assert said in problem["message"]
    assert "update or repair the package broken-semroute" in problem["fix"]
    done = broken.semroute("route", "hello")
    assert done.returncode == 2
    assert "semroute.yaml:3: strategies.1: " in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("strategies: [shapeless]", "strategies.0", 'gives a Shapeless, which is no strategy: it needs "name" (str)'),
        ("strategies: [misnamed]", "strategies.0", 'names its strategy "other", and the configuration "misnamed"'),
        ("strategies: [log]", "strategies.0", '"log" is a section of the file'),
        (
            "strategies: [twin]",
            "strategies.0",
            'two plugins are named "twin" in the group semroute.strategies: broken-semroute 0.1 and twin-semroute 0.2',
        ),
        (
            "cascade: {accept: {shapeless: true}}",
            "cascade.accept.shapeless",
            'it needs "name" (str), "wants_logprobs" (bool), "judge" (a method)',
        ),
        (
            "cascade: {accept: {raising: true}}",
            "cascade.accept.raising",
            "cannot be made: RuntimeError: the moon is in the way",
        ),
        ("cascade: {accept: {raising: {a: 1}}}", "cascade.accept.raising", "the check takes no options"),
        (
            "deployments: [{name: a, model: large, format: shapeless, base_url: 'http://localhost:1'}]",
            "deployments.0.format",
            'it needs "complete" (a method), "stream" (a method)',
        ),
        ("encoder: unimportable", "encoder", "cannot be imported"),
    ],
)
def test_the_check_of_a_configuration_makes_its_plugins(broken: Environment, text: str, key: str, said: str) -> None:
    broken.write(text)
    found = {problem["key"]: problem for problem in broken.problems()}
    assert said in f"{found[key]['message']}; {found[key]['fix']}"
    assert found[key]["line"] == 1


@pytest.mark.slow
def test_an_installed_plugin_that_is_never_used_is_a_warning(broken: Environment) -> None:
    broken.write("strategies: [semantic]")
    done = broken.semroute("config", "check", "--json")
    found = [problem["message"] for problem in json.loads(done.stdout)["problems"] if not problem["key"]]
    clash = (
        'the strategy "semantic" of the package broken-semroute 0.1 (entry point "semantic = broken_semroute:Shapeless"'
    )
    assert any(message.startswith(clash) and "built-in one and is never used" in message for message in found)
    assert any('two plugins are named "twin"' in message for message in found)


@pytest.mark.slow
def test_a_router_is_refused_a_plugin_of_the_wrong_shape(broken: Environment, routing_index: Path) -> None:
    broken.write("strategies: [shapeless]\n")
    done = broken.semroute("route", "--index", str(routing_index), "hello")
    assert done.returncode == 1
    assert "broken-semroute 0.1" in done.stderr


@pytest.mark.slow
def test_an_encoder_of_the_wrong_shape_builds_nothing(broken: Environment) -> None:
    (broken.folder / "all.csv").write_text(
        "text,label\n" + "".join(f"question {n} of {c},{c}\n" for n in range(5) for c in ("a", "b"))
    )
    for name, said in (("shapeless", 'it needs "name" (str)'), ("long", "vectors that are not of unit length")):
        done = broken.semroute("build-index", "all.csv", "--out", "out", "--encoder", name, "--no-head")
        assert done.returncode == 1
        assert said in done.stderr
        assert "broken-semroute 0.1" in done.stderr
    assert not (broken.folder / "out" / "manifest.json").exists()


@pytest.mark.slow
def test_broken_commands_leave_the_command_line_whole(broken: Environment) -> None:
    listed = broken.semroute("--help")
    assert listed.returncode == 0
    assert "unimportable" in listed.stdout
    assert "twin" not in listed.stdout
    warnings = listed.stderr.splitlines()
    assert len(warnings) == 2
    assert all(line.startswith("warning: ") and "broken-semroute 0.1" in line for line in warnings)
    assert "built-in one and is never used" in listed.stderr
    assert broken.semroute("--version").returncode == 0
    for name, said in (
        ("unimportable", "No module named 'broken_missing'"),
        ("number", "is a int, and not a click.Command"),
        ("exiting", "cannot be imported: SystemExit: no"),
        ("twin", "broken-semroute 0.1 and twin-semroute 0.2 both claim it"),
    ):
        done = broken.semroute(name, "--help")
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert "Say which category and model a query goes to" not in broken.semroute("twim").stdout
    assert broken.semroute("route", "--help").returncode == 0


def test_metadata_of_another_package_reach_a_message_in_printable_form() -> None:
    plugin = Plugin("checks", "a\x1b[31m", "acme", "1.0", None, given=3)
    with pytest.raises(PluginError) as raised:
        make(plugin, needs={})
    assert str(raised.value).isprintable()
    assert (raised.value.kind, raised.value.package) == ("checks", "acme")
    with pytest.raises(PluginError, match="both claim it"):
        sole((plugin, Plugin("checks", "a\x1b[31m", "other", "2.0")))
