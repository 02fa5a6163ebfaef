from __future__ import annotations

import numpy as np
import pytest

from semroute.render.plots import along, look_the_same

BENT = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 1.0]])


def test_positions_along_a_line_are_equidistant() -> None:
    found = along(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]), samples=7)
    np.testing.assert_allclose(found[0], (0, 0))
    np.testing.assert_allclose(found[5], (3, 4))
    np.testing.assert_allclose(np.hypot(*np.diff(found, axis=0).T), 1)


def test_lines_through_different_points_of_one_path_look_the_same() -> None:
    more = np.array([[0.0, 0.0], [0.3, 0.3], [1.0, 1.0], [1.0, 1.0], [1.7, 1.0], [2.0, 1.0]])
    assert look_the_same(BENT, more)
    assert look_the_same(BENT * (1e-6, 1), more * (1e-6, 1)), "USD are small numbers"


@pytest.mark.parametrize("other", [BENT[:2], BENT + np.array([0, 0.02]), BENT[[0, 2]], np.array([[0.0, 0.0]])])
def test_lines_that_differ_do_not(other: np.ndarray) -> None:
    assert not look_the_same(BENT, other)


def test_a_single_point_is_a_line() -> None:
    spot = np.array([[1.0, 2.0]])
    assert look_the_same(spot, np.repeat(spot, 3, axis=0))
