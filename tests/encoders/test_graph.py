from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.encoders import onnx
from semroute.encoders.export import ExportedEncoder
from semroute.encoders.onnx import BATCH_TOKENS, TextGraph, length_batches, padded

TEXTS = ["boil an egg", "", "a longer text about the law of the sea " * 20, "ok"]


def opened(files: ExportedEncoder, threads: int | None = None) -> TextGraph:
    return TextGraph(files.model_path, files.tokenizer_path, width=384, max_tokens=64, threads=threads)


@pytest.mark.slow
def test_a_large_graph_shares_a_run_among_threads_and_says_the_same(
    exported_encoder: ExportedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = opened(exported_encoder, threads=3)
    monkeypatch.setattr(onnx, "LARGE", 1)
    large = opened(exported_encoder, threads=3)
    assert [one._session.get_session_options().intra_op_num_threads for one in (small, large)] == [1, 3]
    np.testing.assert_allclose(small(TEXTS), large(TEXTS), atol=1e-5)


@pytest.mark.slow
def test_a_row_for_each_text_in_their_order(exported_encoder: ExportedEncoder) -> None:
    run = opened(exported_encoder)
    whole = run(TEXTS)
    assert whole.shape == (4, 384)
    for text, row in zip(TEXTS, whole, strict=True):
        np.testing.assert_allclose(run([text])[0], row, atol=2e-3)


def test_padding_is_masked() -> None:
    ids, mask = padded([[7], [8, 9, 10]])
    assert ids.tolist() == [[7, 0, 0], [8, 9, 10]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert [part.tolist() for part in padded([[8, 9]])] == [[[8, 9]], [[1, 1]]]


@pytest.mark.slow
@given(st.lists(st.integers(1, 600), min_size=1, max_size=80), st.integers(1, 24))
def test_batches_hold_every_row_once_within_their_bounds(lengths: list[int], size: int) -> None:
    batches = length_batches(lengths, size)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= size
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= BATCH_TOKENS
