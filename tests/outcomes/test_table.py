from __future__ import annotations

import numpy as np
import pytest

from semroute.errors import InputError
from semroute.outcomes.table import ARRAYS, OutcomeTable, TableBuilder


def _table() -> OutcomeTable:
    builder = TableBuilder(keep_responses=True)
    for number, text in enumerate("abc"):
        row = builder.row(text, f"t{number}")
        builder.add(row, "x", {"quality": number / 4}, text.upper())
        if number != 1:
            builder.add(row, "y", {"quality": 1.0, "cost_usd": float(number)}, None)
    return builder.table()


def test_rows_are_taken_by_number_and_by_mask() -> None:
    table = _table()
    picked = table.take(np.array([2, 0]))
    assert (picked.queries, picked.tasks, picked.responses) == (
        ["c", "a"],
        ["t2", "t0"],
        [("C", None), ("A", None)],
    )
    assert picked.quality[:, 0].tolist() == [0.5, 0.0]
    masked = table.take(np.array([True, False, True]))
    assert masked.queries == ["a", "c"]
    assert masked.is_complete.tolist() == [True, True]


def test_a_row_is_complete_where_every_models_quality_is_known() -> None:
    assert _table().is_complete.tolist() == [True, False, True]


def test_models_are_picked_and_put_in_order() -> None:
    table = _table().with_models(["y", "x"])
    assert table.models == ("y", "x")
    assert table.quality[2].tolist() == [1.0, 0.5]
    assert table.cost[2, 0] == 2.0
    assert table.responses == [(None, "A"), (None, "B"), (None, "C")]
    assert _table().with_models(["y"]).quality.shape == (3, 1)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match='hold no model "z"; they hold x, y'):
        _table().with_models(["x", "z"])


def test_the_arrays_are_the_fields_with_a_column_for_each_model() -> None:
    table = _table()
    assert all(getattr(table, name).shape == (3, 2) for name in ARRAYS)
    assert set(ARRAYS) == {
        "quality", "cost", "input_tokens", "output_tokens", "latency", "probability", "counted",
    }  # fmt: skip
