from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from semroute.outcomes.table import group_means, group_sums, numbered

_NAN = float("nan")


def test_names_are_numbered_by_first_occurrence() -> None:
    names, numbers = numbered(["b", "a", "b"])
    assert names == ["b", "a"]
    assert numbers.tolist() == [0, 1, 0]


def test_missing_group_means_are_imputed_from_column_group_or_all() -> None:
    values = np.array([[1.0, _NAN, _NAN], [3.0, _NAN, _NAN], [_NAN, 6.0, _NAN]])
    means = group_means(values, np.array([0, 0, 1]), 3)
    assert means.tolist() == [[2.0, 6.0, 2.0], [2.0, 6.0, 6.0], [2.0, 6.0, 10 / 3]]
    assert np.isnan(group_means(np.full((1, 1), _NAN), np.array([0]), 1)).all()


@pytest.mark.slow
@given(
    arrays.arrays(np.float64, (7, 2), elements=st.floats(0, 1) | st.just(_NAN)),
    arrays.arrays(np.int64, 7, elements=st.integers(0, 2)),
)
def test_sums_are_those_of_a_loop(values: np.ndarray, groups: np.ndarray) -> None:
    sums, counts = group_sums(values, groups, 3)
    for group in range(3):
        for column in range(2):
            cells = [value for value in values[groups == group, column] if not np.isnan(value)]
            assert counts[group, column] == len(cells)
            np.testing.assert_allclose(sums[group, column], sum(cells))
