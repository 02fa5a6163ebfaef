from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.errors import ArtifactError, DataError
from semroute.workflows.index import add_to_category, describe_index, examples_of, remove_from_index
from semroute.workflows.workspace import Workspace


def test_a_description_is_ready_for_json_and_leaves_out_probes(routing_index: Path) -> None:
    found = json.loads(json.dumps(describe_index(Workspace(routing_index)).to_dict()))
    assert found["path"] == str(routing_index)
    assert sorted(found["categories"]) == ["code", "cooking", "law"]
    assert found["bytes"] > 0
    assert "probes" not in found
    assert isinstance(found["overlaps"], list)


@pytest.mark.slow
def test_examples_are_added_and_removed_again(own_index: Path) -> None:
    workspace = Workspace(own_index)
    added = add_to_category(workspace, "cooking", ["how hot must the oven be", "recipe for carrot soup"])
    assert (added.changed.added, added.changed.skipped) == (1, ("recipe for carrot soup",))
    assert added.to_dict()["skipped"] == ["recipe for carrot soup"]
    removed = remove_from_index(workspace, "cooking", ["how hot must the oven be"])
    assert (removed.changed.removed, removed.changed.artifact.manifest.categories["cooking"].examples) == (1, 6)
    gone = remove_from_index(workspace, "law")
    assert "law" not in gone.changed.artifact.manifest.categories
    assert "law" not in gone.to_dict()["artifact"]["categories"]  # type: ignore[index,operator]


def test_only_the_users_own_index_is_changed() -> None:
    with pytest.raises(ArtifactError):
        add_to_category(Workspace(), "cooking", ["boil"])


def test_a_word_is_an_example_or_a_file_of_them() -> None:
    Path("more.txt").write_text("bake bread\nfry an egg\n")
    assert examples_of("more.txt", "cooking") == ["bake bread", "fry an egg"]
    assert examples_of("open more.txt please", "code") == ["open more.txt please"]
    with pytest.raises(DataError, match=r"missing.txt"):
        examples_of("missing.txt", "code")
