from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semroute.errors import ArtifactError
from semroute.index import open_artifact
from semroute.learn.artifact import with_thresholds
from semroute.learn.update import stored_examples


def test_examples_come_back_with_vectors_words_and_pinned_thresholds(own_index: Path) -> None:
    artifact = with_thresholds(open_artifact(own_index), {"law": 0.0}, "file")
    examples, vectors = stored_examples(artifact)
    assert examples.categories == ("code", "cooking", "law")
    assert examples.models["code"] == ("coder", "large")
    assert examples.pinned == {"law": 0.0}
    assert vectors.shape == (len(examples.texts), 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("content", ["not json\n", "{}\n", '{"category": "law", "query": "one"}\n'])
def test_examples_that_do_not_match_are_an_error(routing_index: Path, tmp_path: Path, content: str) -> None:
    artifact = open_artifact(routing_index)
    (tmp_path / "examples.jsonl").write_text(content)
    files = {**artifact.files, "examples": tmp_path / "examples.jsonl"}
    with pytest.raises(ArtifactError, match="build the index again"):
        stored_examples(replace(artifact, files=files))


def test_missing_files_are_an_error(routing_index: Path, tmp_path: Path) -> None:
    artifact = open_artifact(routing_index)
    with pytest.raises(ArtifactError, match="try again"):
        stored_examples(replace(artifact, files={**artifact.files, "vectors": tmp_path / "none.npy"}))
