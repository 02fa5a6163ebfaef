from __future__ import annotations

from pathlib import Path

import pytest

from semroute.config import Config
from semroute.config.schema import CategoryOverride
from semroute.data.examples import LabelledQuery
from semroute.data.queries import read_labelled
from semroute.encoders.onnx import OnnxEncoder
from semroute.errors import DataError
from semroute.router import Router
from semroute.workflows.measure import measure, time_queries


@pytest.fixture
def router(routing_index: Path) -> Router:
    return Router.load(routing_index)


def test_the_figures_are_those_of_routing_each_query(router: Router, labelled: Path) -> None:
    rows = read_labelled(labelled)
    decisions = [router.route(row.query) for row in rows]
    measured = measure(router, rows).evaluation
    right = [decision.category == row.category for decision, row in zip(decisions, rows, strict=True)]
    assert measured.n == len(rows)
    assert measured.accuracy == pytest.approx(sum(right) / len(rows))
    best = [d.categories[0].category == row.category for d, row in zip(decisions, rows, strict=True) if row.category]
    assert measured.accuracy_in_scope == pytest.approx(sum(best) / len(best))


@pytest.mark.slow
def test_a_threshold_of_the_configuration_is_applied(routing_index: Path) -> None:
    high = Config(categories={"code": CategoryOverride(threshold=1.0)})
    rows = [LabelledQuery("fix this python traceback please", "code")]
    assert measure(Router.load(routing_index, config=high), rows).evaluation.false_rejection == 1.0
    assert measure(Router.load(routing_index), rows).evaluation.false_rejection == 0.0


def test_timing_embeds_every_query_although_the_cache_knows_it(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [f"egg {number}" for number in range(9)]
    router.route_many(queries)
    embedded: list[str] = []
    encode = OnnxEncoder.encode

    def counting(self: OnnxEncoder, texts: list[str]) -> object:
        embedded.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(OnnxEncoder, "encode", counting)
    latency = time_queries(router, queries)
    assert set(embedded) == set(queries)
    assert latency.n == len(queries)
    assert 0 < latency.p50 <= latency.p99


def test_no_more_queries_are_timed_than_wanted(router: Router) -> None:
    assert time_queries(router, [f"egg {number}" for number in range(50)], 7).n == 7


def test_no_rows_and_unknown_labels_are_errors_that_name_the_file(router: Router) -> None:
    with pytest.raises(DataError, match=r"f\.csv: no labelled queries"):
        measure(router, [], path=Path("f.csv"))
    with pytest.raises(DataError, match=r'f\.csv: the index has no category "tax"'):
        measure(router, [LabelledQuery("a", "tax")], path=Path("f.csv"))
