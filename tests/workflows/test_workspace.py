from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semroute.config import Config
from semroute.encoders.static import StaticEncoder
from semroute.errors import ArtifactError, ConfigError, InputError, StateError
from semroute.index import open_artifact
from semroute.workflows.workspace import Workspace


@pytest.mark.slow
def test_paths_and_objects_open_the_same_workspace(routing_index: Path) -> None:
    Path("semroute.yaml").write_text("categories: {law: {threshold: 0.7}}\n")
    of_paths = Workspace(routing_index, Path("semroute.yaml"))
    of_objects = Workspace(
        open_artifact(routing_index), Config.model_validate({"categories": {"law": {"threshold": 0.7}}})
    )
    for workspace in (of_paths, of_objects, Workspace(routing_index)):
        names, thresholds = workspace.thresholds
        assert dict(zip(names, thresholds.tolist(), strict=True)) == {"code": 0.2, "cooking": 0.2, "law": 0.7}
    assert of_objects.index_fingerprint == of_paths.index_fingerprint
    assert of_objects.router().route("how do I boil an egg").category == "cooking"


@pytest.mark.slow
def test_the_encoder_is_opened_once_and_an_open_one_is_taken(
    routing_index: Path, static_encoder: StaticEncoder
) -> None:
    workspace = Workspace(routing_index)
    assert workspace.encoder is workspace.encoder
    given = Workspace(None, Config(), encoder=static_encoder)
    assert given.encoder is static_encoder
    np.testing.assert_array_equal(given.vectors(["boil an egg"]), static_encoder.encode(["boil an egg"]))


def test_without_an_index_there_are_no_categories(static_encoder: StaticEncoder) -> None:
    workspace = Workspace(None, Config(), encoder=static_encoder)
    assert not workspace.has_index
    assert workspace.categories.shape == (0, static_encoder.dimensions)
    scores, below = workspace.best_of(workspace.scores(workspace.vectors(["a", "b"])), workspace.thresholds[1])
    assert (scores.tolist(), below.tolist()) == ([0.0, 0.0], [True, True])
    assert workspace.accept_threshold == float("inf")
    with pytest.raises(ArtifactError, match="index"):
        workspace.own_index()


def test_vectors_are_stored_and_read_again_and_a_foreign_file_is_refused(static_encoder: StaticEncoder) -> None:
    workspace, store, steps = Workspace(None, Config(), encoder=static_encoder), Path("v.npz"), list[str]()
    first = workspace.vectors(["boil an egg"], store, lambda step, done, total: steps.append(step))
    assert "embedding" in steps
    steps.clear()
    again = workspace.vectors(["boil an egg"], store, lambda step, done, total: steps.append(step))
    np.testing.assert_array_equal(again, first)
    assert steps == [], "nothing was embedded"
    Path("foreign.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"foreign.npz: cannot be read as stored vectors"):
        workspace.vectors(["boil an egg"], Path("foreign.npz"))


def test_a_log_that_cannot_be_opened_is_a_warning_and_stops_nothing() -> None:
    Path("file").write_text("")
    config = Config.model_validate({"log": {"enabled": True, "url": "sqlite:///file/log.db"}})
    warnings = list[str]()
    with Workspace(None, config).new_outcomes(warnings.append) as log:
        assert log is None
    assert len(warnings) == 1
    assert warnings[0].startswith("nothing is logged: ")
    with Workspace(None, config).new_outcomes(warnings.append, is_logged=False) as log:
        assert log is None
    assert len(warnings) == 1, "a log that is not wanted is not opened"


def test_a_log_to_read_must_exist_and_its_address_must_be_one() -> None:
    with pytest.raises(StateError):
        Workspace().open_log()
    with pytest.raises(ConfigError, match="--log"):
        Workspace().open_log("nowhere://x")


def test_prices_of_a_file_go_over_those_of_the_configuration() -> None:
    config = Config.model_validate({"models": {"small": {"price": {"input": 1, "output": 2}}}})
    assert Workspace(None, config).prices()["small"].output == 2
    Path("prices.yaml").write_text("small: [3, 4]\n")
    assert Workspace(None, config).prices(Path("prices.yaml"))["small"].output == 4
