from __future__ import annotations

from pathlib import Path

import pytest

from semroute.index import open_artifact
from semroute.learn.update import add_examples, overlapping
from semroute.router.load import open_encoder


@pytest.mark.slow
def test_an_example_in_the_wrong_category_is_named_with_what_it_is_near_to(own_index: Path) -> None:
    artifact = open_artifact(own_index)
    changed = add_examples(artifact, open_encoder(artifact), "law", ["recipe for carrot soup with butter"]).artifact
    pair = next(pair for pair in overlapping(changed) if (pair.category, pair.other) == ("law", "cooking"))
    assert pair.worst[0].query == "recipe for carrot soup with butter"
    assert pair.worst[0].rival == "recipe for carrot soup"
    assert pair.worst[0].other > 0.8 > pair.worst[0].own
    assert pair.share == pair.count / 7
