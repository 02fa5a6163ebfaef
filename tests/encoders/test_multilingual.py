from __future__ import annotations

import json
import multiprocessing
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from semroute.encoders import CachedEncoder, load_encoder, save_encoder
from semroute.encoders.multilingual import Bridge, JoinedEncoder, MultilingualEncoder, languages_of
from semroute.errors import EncoderError, MissingExtraError
from semroute.text.language import UNDETERMINED
from semroute.types import Encoder, Matrix

FOREIGN = [
    ("Wo ist meine Bestellung?", "where is my order"),
    ("¿por qué el cielo es azul?", "why is the sky blue"),
    ("che tempo farà domani?", "what will the weather be tomorrow"),
    ("パスワードを忘れました", "I forgot my password"),
]
UNKNOWN = [
    ("hi", "मेरा ऑर्डर अभी तक क्यों नहीं आया"),
    ("el", "πού είναι η παραγγελία μου"),
    ("he", "איפה ההזמנה שלי"),
    ("sv", "var är min beställning, jag har väntat i två veckor"),
    ("fi", "kirjoita minulle lyhyt runo syksystä"),
    ("hu", "hogyan kell kiszámolni a kamatos kamatot"),
    ("vi", "viết cho tôi một bài thơ ngắn về mùa thu"),
    ("cs", "kde je moje objednávka, čekám už dva týdny"),
    ("sw", "nina maumivu ya koo na homa kwa siku tatu"),
]
KNOWN = [
    *(text for pair in FOREIGN for text in pair),
    *("hi", "thx", "1 + 1", "x = [i for i in range(10)]", "lol ok", "translate 'good morning' into Swedish"),
    *("Wie sagt man „guten Morgen“ auf Schwedisch?", "traduci in greco: buongiorno"),
]


def unit(rows: Any) -> Matrix:
    array = np.asarray(rows, np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def write_bridge(path: Path, matrix: Matrix, *, gate: Sequence[float] = (0.4, 20.0), weight: float = 1.2) -> Path:
    np.savez(path, map=matrix, gate=np.array(gate, np.float32), weight=np.array(weight, np.float32))
    return path


@pytest.fixture
def identity(tmp_path: Path) -> Bridge:
    """A bridge between two spaces of four numbers that are the same one."""
    return Bridge(write_bridge(tmp_path / "bridge.npz", np.eye(5, 4, dtype=np.float16)))


def test_where_both_encoders_agree_the_english_vector_stays(identity: Bridge) -> None:
    english, multilingual = unit([[1, 0.2, 0, 0]]), unit([[1, 0, 0.2, 0]])
    joined = identity.join(english, multilingual)
    np.testing.assert_allclose(unit(joined[:, :4]), english, atol=1e-3)
    np.testing.assert_allclose(unit(joined[:, 4:]), multilingual, atol=1e-6)


def test_where_they_do_not_agree_the_bridged_vector_takes_its_place(identity: Bridge) -> None:
    english, multilingual = unit([[0, 0, 0, 1]]), unit([[1, 0, 0, 0]])
    np.testing.assert_allclose(unit(identity.join(english, multilingual)[:, :4]), multilingual, atol=1e-3)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_any_pair_of_vectors_gives_a_unit_vector(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    draw = np.random.default_rng(seed)
    path = tmp_path_factory.getbasetemp() / f"bridge-{seed}.npz"
    bridge = Bridge(write_bridge(path, draw.standard_normal((7, 3)).astype(np.float16)))
    joined = bridge.join(unit(draw.standard_normal((4, 3))), unit(draw.standard_normal((4, 6))))
    assert joined.shape == (4, 9)
    assert joined.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-5)
    path.unlink()


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        {"map": np.eye(3)},
        {"map": np.full((3, 2), np.nan), "gate": np.zeros(2), "weight": np.ones(())},
        {"map": np.eye(3), "gate": np.zeros(3), "weight": np.ones(())},
        {"map": np.ones(3), "gate": np.zeros(2), "weight": np.ones(())},
        {"map": np.eye(3), "gate": np.zeros(2), "weight": np.ones(2)},
    ],
    ids=["no archive", "no gate", "not finite", "three numbers of a gate", "no matrix", "two weights"],
)
def test_a_damaged_bridge_is_named(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "bridge.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(EncoderError, match=r"bridge\.npz: not a usable bridge between two encoders"):
        Bridge(path)


def tiny_joined(folder: Path, *, dimensions: int = 16, threads: int = 2) -> JoinedEncoder:
    """Two graphs of eight numbers, which are the same one, and the identity between them."""
    folder.mkdir(exist_ok=True)
    tiny.encoder(folder)
    files = folder / "encoder.onnx", folder / "tokenizer.json"
    return JoinedEncoder(
        files,
        files,
        write_bridge(folder / "bridge.npz", np.eye(9, 8, dtype=np.float16)),
        languages=["en", "de"],
        name="tiny joined",
        fingerprint="tiny joined",
        dimensions=dimensions,
        threads=threads,
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_one_text_and_many_give_the_same_vectors(tmp_path: Path, threads: int) -> None:
    encoder = tiny_joined(tmp_path, threads=threads)
    assert isinstance(encoder, Encoder)
    texts = ["fix the python loop", "boil a egg", "soup"]
    alone = np.vstack([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-6)
    assert encoder.encode([]).shape == (0, 16)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_encodes(tmp_path: Path) -> None:
    encoder = tiny_joined(tmp_path)
    expected = encoder.encode(["boil a egg"])
    near, far = multiprocessing.get_context("fork").Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=lambda: far.send(encoder.encode(["boil a egg"])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads
        child.start()
    assert near.poll(20)
    np.testing.assert_allclose(near.recv(), expected)
    child.join()


def test_graphs_and_bridge_must_fit_together(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="joins 8 and 8 numbers, not 17 in all"):
        tiny_joined(tmp_path, dimensions=17)


def test_without_language_detection_only_scripts_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> str:
        raise MissingExtraError("telling languages apart", "language")

    monkeypatch.setattr("semroute.encoders.multilingual.language_outside", absent)
    monkeypatch.setattr("semroute.encoders.multilingual.detect_language", absent)
    encoder = tiny_joined(tmp_path)
    assert encoder.unknown_language("πού είναι") == UNDETERMINED
    assert encoder.unknown_language("the python loop") is None
    encoder.learn_languages(["πού είναι"] * 9)
    assert encoder.languages == {"en", "de"}


@pytest.mark.slow
def test_languages_of_many_examples_are_learnt_and_those_of_a_few_are_not() -> None:
    swedish = ["var är min beställning", "jag har väntat i två veckor", "hur räknar man ut räntan på ett lån"]
    english = ["where is my order", "I have been waiting for two weeks"]
    assert languages_of([*swedish, *english], 3) == {"sv"}
    assert languages_of([*swedish, *english], 4) == frozenset()


@pytest.mark.slow
@pytest.mark.parametrize(("language", "text"), UNKNOWN, ids=[language for language, _ in UNKNOWN])
def test_a_language_that_none_knows_is_named(
    joined_encoder: JoinedEncoder, multilingual_encoder: MultilingualEncoder, language: str, text: str
) -> None:
    for encoder in (joined_encoder, multilingual_encoder):
        assert encoder.unknown([text]) == [True]
        assert encoder.unknown_language(text) == language
        assert CachedEncoder(encoder).unknown_language(text) == language


@pytest.mark.slow
def test_known_languages_code_and_requests_to_translate_are_known(
    joined_encoder: JoinedEncoder, multilingual_encoder: MultilingualEncoder
) -> None:
    assert not any(joined_encoder.unknown(KNOWN))
    assert not any(multilingual_encoder.unknown(KNOWN))


def test_an_encoder_without_languages_tells_none(tmp_path: Path) -> None:
    assert CachedEncoder(tiny.encoder(tmp_path)).unknown_language("var är min beställning") is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joined_encoder", "multilingual_encoder"])
def test_translations_are_close_and_other_texts_are_not(name: str, request: pytest.FixtureRequest) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    foreign, english = (encoder.encode(texts) for texts in zip(*FOREIGN, strict=True))
    cosines = foreign @ english.T
    assert (cosines.argmax(axis=1) == np.arange(len(FOREIGN))).all()
    assert np.diag(cosines).min() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joined_encoder", "multilingual_encoder"])
def test_it_comes_back_from_its_files_whatever_their_names(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    encoder = request.getfixturevalue(name)
    description = save_encoder(encoder, tmp_path)
    for role, file in description["files"].items():
        (tmp_path / file).rename(tmp_path / f"{role}.0123")
    stored = json.loads(json.dumps(description | {"files": {role: f"{role}.0123" for role in description["files"]}}))
    loaded: Any = load_encoder(stored, tmp_path)
    assert type(loaded) is type(encoder)
    assert loaded.languages == encoder.languages
    assert loaded.fingerprint == encoder.fingerprint
    texts = ["my invoice charged me twice", "Wo ist meine Bestellung?"]
    np.testing.assert_array_equal(loaded.encode(texts), encoder.encode(texts))
    assert "dimensions" in repr(loaded)


@pytest.mark.parametrize(
    "languages", [None, "en", ["en", 3], ["../etc"], ["en"] * 1001], ids=["none", "text", "number", "path", "too many"]
)
def test_strange_languages_of_a_description_are_refused(languages: Any, tmp_path: Path) -> None:
    description = save_encoder(tiny_joined(tmp_path / "made"), tmp_path) | {"languages": languages}
    with pytest.raises(EncoderError, match='"languages" must be a list of language codes'):
        load_encoder(description, tmp_path)
