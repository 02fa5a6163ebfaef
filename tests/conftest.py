"""What is costly to make and shared by the tests of every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from semroute.encoders.export import ExportedEncoder


@pytest.fixture(scope="session")
def sentence_transformer() -> SentenceTransformer:
    """The built-in model on torch; tests must leave it as it is."""
    from semroute.encoders.sentence import DEFAULT_MODEL, load

    return load(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def exported_encoder(tmp_path_factory: pytest.TempPathFactory) -> ExportedEncoder:
    """The built-in model as exported files; ``.load()`` gives an encoder, ``.model_path.parent`` is the folder."""
    from semroute.encoders.export import export_onnx
    from semroute.encoders.sentence import DEFAULT_MODEL

    return export_onnx(DEFAULT_MODEL, tmp_path_factory.mktemp("exported_encoder"))
