"""The pages beside the code: complete, linked, and right where a program can tell."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from pages import PACKAGE, PAGES, README, ROOT, WINGS, blocks, read

import semroute
from semroute import errors, types
from semroute.cli.main import cli
from semroute.config.schema import Config
from semroute.testing import FakeProvider, answer

SCRIPTS = ROOT / "scripts"
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(read(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_cells(page: Path) -> list[str]:
    """Return the code in the first cell of every table row that begins with code."""
    return re.findall(r"^\| `([^`]+)`", without_blocks(read(page)), re.MULTILINE)


def test_the_readme_is_short() -> None:
    assert len(read(README).splitlines()) <= 200


@pytest.mark.parametrize("wing", WINGS, ids=lambda wing: wing.name)
def test_the_page_of_a_wing_names_every_module_and_no_other(wing: Path) -> None:
    modules = {str(path.relative_to(wing)) for path in wing.rglob("*.py") if path.name != "__init__.py"}
    named = [cell for cell in first_cells(wing / "README.md") if cell.endswith(".py")]
    assert Counter(named) == Counter(modules)


def test_the_vocabulary_names_every_module_of_the_root_and_every_wing() -> None:
    page = read(PACKAGE / "README.md")
    assert [path.name for path in PACKAGE.glob("*.py") if f"`{path.name}`" not in page] == ["__init__.py"]
    assert [wing.name for wing in WINGS if f"({wing.name}/README.md)" not in page] == []
    assert [wing.name for wing in WINGS if f"(semroute/{wing.name}/README.md)" not in read(README)] == []


def test_the_vocabulary_names_every_public_noun_once() -> None:
    public = {name for name in (*semroute.__all__, *types.__all__) if re.match("[A-Z][a-z]", name)}
    public |= {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__ and not name.startswith("_")
    }
    rows = re.findall(r"^\| `([A-Z]\w+)` \| .+? \|(?: `(.+)` \|)?$", read(PACKAGE / "README.md"), re.MULTILINE)
    named = Counter(name for name, _ in rows)
    assert set(named.values()) == {1}
    assert public - set(named) == set()
    homes = {name: (module or "errors.py").removesuffix(".py").replace("/", ".") for name, module in rows}
    assert [name for name, home in homes.items() if not hasattr(import_module(f"semroute.{home}"), name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    broken = []
    for target in LINK.findall(without_blocks(read(page))):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or not path.is_relative_to(ROOT) or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def test_the_modules_that_pages_point_to_exist() -> None:
    """``strategies/semantic.py`` in the vocabulary, ``semroute/config/deployments.py`` and ``tests/…`` elsewhere."""
    missing = []
    for page in PAGES:
        for path in re.findall(r"`((?:[\w.]+/)+[\w.]+)`", without_blocks(read(page))):
            if not any((base / path).exists() for base in (ROOT, PACKAGE, page.parent)) and path.endswith(
                (".py", ".npz")
            ):
                missing.append(f"{page.relative_to(ROOT)}: {path}")
    assert missing == []


@pytest.mark.slow
def test_the_classes_that_pages_name_exist() -> None:
    sources = " ".join(read(path) for folder in (PACKAGE, SCRIPTS) for path in folder.rglob("*.py"))
    shown = " ".join(
        block for page in PAGES for block in re.findall(r"^```.*?^```", read(page), re.MULTILINE | re.DOTALL)
    )
    known = {*re.findall(r"\w+", sources + shown), "CliRunner"}
    named = {
        name
        for page in PAGES
        for code in re.findall(r"`([^`\n]+)`", without_blocks(read(page)))
        for name in re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", code)
    }
    assert len(named) > 50
    assert named - known == set()


def test_the_picture_is_an_svg_that_says_in_words_what_it_shows() -> None:
    (target,) = re.findall(r"!\[.+\]\((.+\.svg)\)", read(README))
    picture = ElementTree.parse(ROOT / target).getroot()
    assert picture.tag.endswith("svg")
    assert picture.get("aria-label")


def drawn_layers() -> list[str]:
    """Return the layers of the README's map, from the top, as the contract writes them."""
    (rows,) = re.findall(r"^\| layer \| .*\n\|[- |]+\n((?:\| .*\n)+)", read(README), re.MULTILINE)
    layers = [re.sub(r"\[(\w+)\]\([^)]*\)", r"\1", row.split(" | ")[0].removeprefix("| ")) for row in rows.splitlines()]
    return [layer.replace("·", "|") for layer in layers]


def test_the_map_is_the_contract_of_the_layers() -> None:
    contracts = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert drawn_layers() == [layer.replace("semroute.", "") for layer in layers]


def test_the_map_names_every_module_of_the_package() -> None:
    parts = {*(wing.name for wing in WINGS), *(path.stem for path in PACKAGE.glob("*.py"))}
    assert parts - set(re.findall(r"\w+", " ".join(drawn_layers()))) == {"testing", "__init__", "__main__"}


def test_every_script_has_a_section_and_every_measured_one_its_command() -> None:
    sections = dict(
        re.findall(r"^## (\w+\.py)\n(.*?)(?=^## |\Z)", read(SCRIPTS / "README.md"), re.MULTILINE | re.DOTALL)
    )
    assert sorted(sections) == sorted(path.name for path in SCRIPTS.glob("*.py"))
    without = [name for name, text in sections.items() if f"python scripts/{name}" not in " ".join(text.split())]
    assert [name for name in without if name.startswith("bench_")] == []
    assert [
        name for name, text in sections.items() if name.startswith("bench_") and not re.search(r"\d{4}-\d\d-\d\d", text)
    ] == []


def test_the_page_of_the_command_line_has_a_row_for_every_command() -> None:
    rows = " ".join(re.findall(r"^\| (`semroute .+?) \| ", read(PACKAGE / "cli" / "README.md"), re.MULTILINE))
    assert [name for name in cli.list_commands(click.Context(cli)) if f"semroute {name}" not in rows] == []


def test_the_reference_of_the_configuration_has_every_section() -> None:
    rows = {re.split(r"[.\[]", cell)[0] for cell in first_cells(PACKAGE / "config" / "README.md")}
    assert set(Config.model_fields) - rows <= {"state_password_env", "state_timeout_s"}
    assert all(f"`{name}" in read(PACKAGE / "config" / "README.md") for name in Config.model_fields)


# Programs on the pages run as they stand. Each has its own process and an index in its working folder.


@pytest.fixture
def folder(own_index: Path, tmp_path: Path) -> Path:
    (tmp_path / ".semroute").mkdir()
    own_index.rename(tmp_path / ".semroute" / "index")
    return tmp_path


def run(program: str, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SEMROUTE_INDEX": "", **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PROGRAMS = blocks("python")


def test_the_readme_begins_with_the_quickstart_of_the_library() -> None:
    assert "from semroute import Router, route" in PROGRAMS["README.md 1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_on_a_page_runs_and_prints(name: str, folder: Path) -> None:
    assert run(PROGRAMS[name], folder).strip()


@pytest.mark.slow
def test_the_page_of_the_double_shows_a_failover(folder: Path) -> None:
    (name,) = (name for name in PROGRAMS if name.startswith("semroute/testing/"))
    assert run(PROGRAMS[name], folder) == "Hello. [503, 200]\n"


@pytest.mark.slow
def test_an_applications_call_runs_before_and_after(folder: Path) -> None:
    (change,) = blocks("diff").values()
    lines = change.splitlines()
    assert len(lines) <= 11
    before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    with FakeProvider() as provider:
        provider.always(answer("It will be paid back."))
        models = "".join(
            f"  - {{name: {model}, model: {model}, base_url: {provider.base_url}, price: {{input: 1, output: 2}}}}\n"
            for model in ("coder", "small", "large")
        )
        (folder / "semroute.yaml").write_text(f"deployments:\n{models}", encoding="utf-8")
        keys = {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": provider.base_url}
        assert run(before, folder, **keys) == "It will be paid back.\n"
        text, rest = run(after, folder).split(". ", 1)
    assert text == "It will be paid back"
    assert re.match(r"(coder|small|large) Cost\(usd=\d.*, estimated=False\)$", rest)


def test_the_blocks_that_are_run_as_the_page_says_stand_in_their_order() -> None:
    shell = [block for name, block in blocks("sh").items() if name.startswith("README.md")]
    assert len(shell) == 3
    install, tests, everything = shell
    assert "build-index" in install
    assert "semroute route" in install
    assert tests.endswith("pytest -q -n auto\n")
    assert ".[all,dev]" in everything


PLUGIN_PAGES = ("cascade", "encoders", "providers", "strategies")
KINDS = {"cascade": "checks", "encoders": "encoders", "providers": "providers", "strategies": "strategies"}


@pytest.mark.slow
@pytest.mark.parametrize("wing", PLUGIN_PAGES)
def test_the_plugin_that_a_page_shows_is_taken_by_the_configuration_beside_it(wing: str, folder: Path) -> None:
    page = f"semroute/{wing}/README.md 1"
    program, configuration = blocks("python plugin")[page], blocks("yaml plugin")[page]
    ((name, home),) = re.findall(r"^([\w-]+) = \"\w+:(\w+)\"$", blocks("toml")[page], re.MULTILINE)
    (folder / "plugin.yaml").write_text(configuration, encoding="utf-8")
    taken = f'load_config("plugin.yaml", {KINDS[wing]}={{{name!r}: {home}}})'
    assert run(f"{program}\nfrom semroute.config import load_config\n{taken}\nprint({home}.__name__)", folder)


@pytest.mark.slow
def test_the_command_that_a_page_shows_is_one(folder: Path) -> None:
    program = blocks("python plugin")["semroute/cli/README.md 1"]
    assert run(f"{program}\ngreet(['you'])", folder) == "hello you\n"
