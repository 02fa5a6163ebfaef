"""Routers that are built from a program's own examples, without a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROUTING_EXAMPLES

import semroute
from semroute.config import Config
from semroute.data.categories import read_categories, shipped_folder
from semroute.data.queries import read_labelled
from semroute.encoders.export import ExportedEncoder
from semroute.encoders.onnx import OnnxEncoder
from semroute.errors import ConfigError, EncoderError, InputError
from semroute.learn.build import EncoderChoice, build_index
from semroute.router import Router
from semroute.router.load import nearest_examples
from semroute.types import Matrix

MODELS: dict[str, str | Sequence[str]] = {"code": ["coder", "large"], "cooking": "small", "law": "lawyer"}
EACH = 30
"""Examples of each category of the larger set: enough for validation to choose a head."""
QUERIES = [
    "how long do I boil an egg",
    "my python loop never ends",
    "can the landlord keep my deposit",
    "who won the football match",
    "👍",
    "Explain this:\n\n" + "def f(x): return x\n" * 40,
]


class WordEncoder:
    """Encoder of a program's own: hashed words, of no class that an index on disk can store."""

    name, fingerprint, dimensions = "words", "words-1", 64

    def encode(self, texts: Sequence[str]) -> Matrix:
        found = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split() or [""]:
                found[row, sum(map(ord, word)) % self.dimensions] += 1.0
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder(exported_encoder: ExportedEncoder) -> OnnxEncoder:
    return exported_encoder.load()


@pytest.fixture(scope="module")
def many() -> dict[str, list[str]]:
    """Some examples of six shipped categories."""
    read = read_categories(shipped_folder())
    return {category.name: list(category.examples[:EACH]) for category in read.categories[:6]}


def folder_of(examples: Mapping[str, Sequence[str]], folder: Path) -> Path:
    folder.mkdir()
    for name, texts in examples.items():
        content = {"models": [f"for-{name}"], "examples": list(texts)}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    return folder


def models_of(examples: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {name: f"for-{name}" for name in examples}


def told(router: Router, queries: Sequence[str]) -> list[tuple[Any, ...]]:
    """All of the decisions that does not depend on the time."""
    decisions = router.route_many(queries)
    return [
        (one.category, one.model, one.score, one.threshold, one.confidence, one.is_fallback, one.categories, one.reason)
        for one in decisions
    ]


@pytest.mark.slow
def test_it_decides_as_an_index_on_disk_of_the_same_examples(
    many: dict[str, list[str]], encoder: OnnxEncoder, tmp_path: Path
) -> None:
    config = Config.model_validate({"fallback": {"models": ["strong"]}})
    build_index(folder_of(many, tmp_path / "categories"), tmp_path / "index", encoder=EncoderChoice())
    on_disk = Router.load(tmp_path / "index", config=config)
    built = Router.from_examples(many, models_of(many), fallback="strong", encoder=encoder, config=config)
    ours, theirs = built.live.artifact.manifest, on_disk.live.artifact.manifest
    assert ours.head is not None
    assert (ours.categories, ours.head, ours.weight) == (theirs.categories, theirs.head, theirs.weight)
    assert (ours.calibration, ours.ask_bar, ours.validation) == (theirs.calibration, theirs.ask_bar, theirs.validation)
    queries = [*QUERIES, *(f"please: {texts[0]}" for texts in many.values())]
    assert told(built, queries) == told(on_disk, queries)
    assert any(one.is_fallback for one in built.route_many(queries))


@pytest.mark.slow
def test_validation_sets_thresholds_and_calibration_as_on_disk(
    encoder: OnnxEncoder, labelled: Path, tmp_path: Path
) -> None:
    rows = read_labelled(labelled)
    categories = folder_of(ROUTING_EXAMPLES, tmp_path / "categories")
    build_index(categories, tmp_path / "index", encoder=EncoderChoice(), validation=rows)
    on_disk = Router.load(tmp_path / "index", config=Config())
    pairs = [(row.query, row.category) for row in rows]
    built = Router.from_examples(
        ROUTING_EXAMPLES, models_of(ROUTING_EXAMPLES), validation=pairs, encoder=encoder, config=Config()
    )
    ours, theirs = built.live.artifact.manifest, on_disk.live.artifact.manifest
    assert {entry.threshold_from for entry in ours.categories.values()} == {"out-of-scope"}
    assert (ours.categories, ours.calibration) == (theirs.categories, theirs.calibration)
    assert told(built, QUERIES) == told(on_disk, QUERIES)


@pytest.mark.slow
def test_the_background_can_be_left_out_and_one_that_cannot_be_used_says_why(encoder: OnnxEncoder) -> None:
    with Router.from_examples(ROUTING_EXAMPLES, MODELS, encoder=encoder, background=False, config=Config()) as router:
        manifest = router.live.artifact.manifest
        assert manifest.background == 0
        assert "background" not in manifest.validation
    with Router.from_examples(ROUTING_EXAMPLES, MODELS, encoder=WordEncoder(), config=Config()) as router:
        assert "encoder" in router.live.artifact.manifest.validation["background"]["left_out"]


@pytest.mark.slow
def test_an_encoder_of_the_program_is_used_and_stays_open() -> None:
    closed = []

    class Own(WordEncoder):
        def close(self) -> None:
            closed.append(True)

    with Router.from_examples(ROUTING_EXAMPLES, MODELS, encoder=Own(), config=Config()) as router:
        assert router.route("write a sql join").category == "code"
        (nearest,) = nearest_examples(router.live, "write a sql join", 1)
        assert (nearest.category, nearest.query) == ("code", "write a sql join")
    assert not closed


@pytest.mark.slow
def test_the_models_are_those_of_argument_configuration_and_fallback(encoder: OnnxEncoder) -> None:
    config = Config.model_validate(
        {
            "models": {"large": {}, "huge": {}},
            "categories": {"law": {"models": ["judge"]}},
            "groups": {"strong": ["large", "huge"]},
        }
    )
    given = {"code": ["coder", "large"], "cooking": "small"}
    router = Router.from_examples(ROUTING_EXAMPLES, given, fallback=["strong"], encoder=encoder, config=config)
    decisions = router.route_many(["write a sql join", "recipe for carrot soup", "is my lease binding", "zxqv"])
    assert [one.candidates for one in decisions] == [("coder", "large"), ("small",), ("judge",), ("strong",)]
    assert config.fallback.models == ("large",)


@pytest.mark.slow
def test_nothing_is_written_to_the_working_folder_and_the_temporary_one_ends_with_the_router(tmp_path: Path) -> None:
    program = """
    import json, os, sys
    from pathlib import Path
    from semroute import Router
    examples, temporary = json.loads(sys.argv[1]), Path(sys.argv[2])
    router = Router.from_examples(examples, dict.fromkeys(examples, "small"))
    during = [path.name for path in temporary.iterdir()]
    if sys.argv[3] == "fork":
        child = os.fork()
        if child == 0:
            assert router.route("recipe for soup").category == "cooking"
            sys.exit()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [path.name for path in temporary.iterdir()] == during
        assert router.route("recipe for soup").category == "cooking"
    if sys.argv[3] == "close":
        router.close()
        print(json.dumps([during, [path.name for path in temporary.iterdir()]]))
    else:
        print(json.dumps([during, []]))
    """
    for end in ("close", "exit", *(["fork"] if hasattr(os, "fork") else [])):
        work, temporary = tmp_path / end, tmp_path / f"temporary-{end}"
        work.mkdir()
        temporary.mkdir()
        lines = "\n".join(line[4:] for line in program.splitlines())
        ended = subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                "-W",
                "ignore::DeprecationWarning",
                "-c",
                lines,
                json.dumps(ROUTING_EXAMPLES),
                str(temporary),
                end,
            ],
            cwd=work,
            env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path(semroute.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        during, after = json.loads(ended.stdout)
        assert len(during) == 1
        assert after == []
        assert list(work.iterdir()) == []
        assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_it_cannot_be_reloaded(encoder: OnnxEncoder) -> None:
    router = Router.from_examples(ROUTING_EXAMPLES, MODELS, encoder=encoder, config=Config())
    with pytest.raises(InputError, match="built in memory"):
        router.reload()
    assert router.route("write a sql join").category == "code"


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([("code", ["x"])], r"^examples: a mapping from each category .* is needed, not list"),
        ({}, "^examples: there are no categories"),
        ({3: ["x"]}, "^examples: a category's name is text, not 3"),
        ({" code": ["x"]}, '^examples: a category\'s name must be printable text .*, not "code"'),
        ({"code": "fix this"}, r'^examples\["code"\]: a list of example queries is needed, not one string'),
        ({"code": 4}, r'^examples\["code"\]: a list of example queries is needed, not int'),
        ({"code": []}, r'^examples\["code"\]: the category has no examples'),
        ({"code": ["x"], "law": ["y", None]}, r'^examples\["law"\]\[1\]: an example query is text, not NoneType'),
        ({"code": ["x", "  "]}, r'^examples\["code"\]\[1\] is blank'),
        ({"code": ["\ud800"]}, r'^examples\["code"\]\[0\] holds half of a UTF-16 surrogate pair'),
        ({"caf\u00e9": ["x"], "cafe\u0301": ["y"]}, "two forms of Unicode"),
    ],
)
def test_examples_that_cannot_be_used_are_named_by_their_place(examples: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Router.from_examples(examples, {"code": "coder", "law": "small"}, config=Config())


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (None, 'the category "code" has no model'),
        ({"code": "coder"}, 'the category "law" has no model; name one, such as models={"law": "small"}'),
        ({"code": "coder", "law": "x", "lav": "y"}, 'models: "lav" has no examples; there are .* did you mean "law"'),
        ({"code": "coder", "law": []}, r'^models\["law"\]: '),
        ({"code": "coder", "law": 3}, r'^models\["law"\]: the name of a model, or a list of names, is needed, not int'),
        ({"code": "coder", "law": [" "]}, r'^models\["law"\]: '),
        (["coder"], "^models: a mapping from each category to its models"),
    ],
)
def test_models_that_do_not_fit_the_categories_are_named(models: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Router.from_examples({"code": ["fix it"], "law": ["is it legal"]}, models, config=Config())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "^validation: a list of pairs"),
        ("code", "^validation: a list of pairs"),
        (["boil an egg"], r"^validation\[0\]: a pair of a query and its category"),
        ([("x", None), ("y", "kode")], r'^validation\[1\]: "kode" is not a category; there are .* did you mean "code"'),
        ([(3, "code")], r"^validation\[0\]: an example query is text, not int"),
    ],
)
def test_validation_that_cannot_be_used_is_named_by_its_place(rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Router.from_examples(ROUTING_EXAMPLES, MODELS, validation=rows, config=Config())


def test_a_fallback_that_cannot_be_used_is_named() -> None:
    with pytest.raises(InputError, match=r"^fallback: "):
        Router.from_examples(ROUTING_EXAMPLES, MODELS, fallback=[], config=Config())


@pytest.mark.slow
def test_overrides_of_a_category_without_examples_are_refused(encoder: OnnxEncoder) -> None:
    config = Config.model_validate({"categories": {"cookin": {"models": ["small"]}}})
    with pytest.raises(ConfigError, match=r'categories\.cookin: .* did you mean "cooking"'):
        Router.from_examples(ROUTING_EXAMPLES, MODELS, encoder=encoder, config=config)


class Doubled(WordEncoder):
    def encode(self, texts: Sequence[str]) -> Matrix:
        return 2 * super().encode(texts)


class Listed(WordEncoder):
    def encode(self, texts: Sequence[str]) -> Any:
        return super().encode(texts).tolist()


@pytest.mark.parametrize(
    ("encoder", "error", "message"),
    [
        (object(), InputError, "^encoder: an object with name, fingerprint, dimensions and encode"),
        (Doubled(), EncoderError, "not of unit length; .* float32 unit rows"),
        (Listed(), EncoderError, "^encoder: "),
    ],
)
def test_an_encoder_that_cannot_be_used_is_refused(encoder: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Router.from_examples(ROUTING_EXAMPLES, MODELS, encoder=encoder, config=Config())


@pytest.mark.slow
def test_without_the_extra_the_error_names_the_command(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["sklearn"] = sys.modules["scipy"] = sys.modules["onnx"] = None
from semroute import MissingExtraError, Router
try:
    Router.from_examples({"code": ["fix it", "a loop"], "law": ["my lease", "a will"]}, {"code": "a", "law": "b"})
except MissingExtraError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(Path(semroute.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'pip install "semroute-router[build]"' in ended.stdout


def test_the_smallest_input_builds(encoder: OnnxEncoder) -> None:
    router = Router.from_examples({"code": ["fix it"]}, {"code": "coder"}, encoder=encoder, config=Config())
    assert router.route("fix it").model == "coder"
    assert router.route("def").threshold is not None or router.route("def").is_fallback


@pytest.mark.slow
def test_examples_that_nearly_repeat_are_reported_and_kept_once(
    encoder: OnnxEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    twins = {"code": ["fix this loop", "fix this loop", "write a test"], "law": ["fix this loop!", "my lease"]}
    with caplog.at_level("INFO", logger="semroute"):
        router = Router.from_examples(twins, {"code": "a", "law": "b"}, encoder=encoder, config=Config())
    assert router.live.artifact.manifest.categories["code"].examples == 2
    assert "at least 5" in caplog.text
