from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from semroute.errors import InputError, MissingExtraError
from semroute.evaluate.routing import ScoredQueries, SweepPoint, recommend, sweep, threshold_grid
from semroute.render.plots import plot_sweep


def swept(*, outside: bool) -> tuple[list[SweepPoint], SweepPoint]:
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.2]], np.float32)
    scored = ScoredQueries(("a", "b"), scores, np.full(3, 0.5), np.array([0, 1, -1 if outside else 0]))
    points = sweep(scored, threshold_grid(scored))
    return points, recommend(points, 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("outside", [True, False])
def test_a_png_is_written_with_and_without_out_of_scope_queries(tmp_path: Path, outside: bool) -> None:
    points, best = swept(outside=outside)
    plot_sweep(points, best, tmp_path / "curve.png", title="a curve")
    content = (tmp_path / "curve.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(content[16:20], "big") >= 1000  # pixels wide


@pytest.mark.slow
def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    points, best = swept(outside=True)
    with pytest.raises(InputError, match="nowhere"):
        plot_sweep(points, best, tmp_path / "nowhere" / "curve.png", title="")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    points, best = swept(outside=True)
    with pytest.raises(MissingExtraError, match=r"semroute-router\[plot\]"):
        plot_sweep(points, best, tmp_path / "curve.png", title="")


def test_the_grid_goes_from_accepting_all_to_accepting_none() -> None:
    points, _ = swept(outside=True)
    assert (points[0].coverage, points[0].oos_caught) == (1.0, 0.0)
    assert (points[-1].coverage, points[-1].oos_caught) == (0.0, 1.0)
    assert np.allclose(np.diff([point.threshold for point in points]), 0.01)
