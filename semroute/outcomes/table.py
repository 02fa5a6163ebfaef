"""Outcomes of many queries as arrays: a row a query, a column a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from semroute.categories import Finding
from semroute.errors import InputError
from semroute.texts.nearest import known_names

Floats = NDArray[np.float32]
Rows = NDArray[np.int64] | NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """What is known of ``n`` queries and ``m`` models; NaN is "not known".

    Attributes:
        queries: ``n`` texts without surrounding whitespace; a text stands once for each time that models were drawn
            for it.
        tasks: ``n`` names; the empty string where none was given.
        models: ``m`` names, in the order in which the files name them first.
        quality: ``(n, m)`` float32 in 0..1.
        cost: ``(n, m)`` float32, USD of the whole call.
        input_tokens, output_tokens: ``(n, m)`` float32.
        latency: ``(n, m)`` float32, milliseconds.
        probability: ``(n, m)`` float32: with what probability the policy that logged the row chose the model; needed
            by the estimates from incomplete rows (:mod:`semroute.evaluate.offpolicy`).
        counted: ``(n, m)`` whether ``output_tokens`` were counted here, with another tokenizer than the model's.
        responses: ``n`` tuples of ``m`` answers, None for those that are not known; None where they were not kept.
        logprobs: like ``responses``, the natural-log probabilities of an answer's tokens.
        findings: what is remarkable in the files, though it can be used.
    """

    queries: list[str]
    tasks: list[str]
    models: tuple[str, ...]
    quality: Floats
    cost: Floats
    input_tokens: Floats
    output_tokens: Floats
    latency: Floats
    probability: Floats
    counted: NDArray[np.bool_]
    responses: list[tuple[str | None, ...]] | None = None
    logprobs: list[tuple[Sequence[float] | None, ...]] | None = None
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def is_complete(self) -> NDArray[np.bool_]:
        """``(n,)`` whether the quality of every model is known."""
        return np.asarray(np.isfinite(self.quality).all(axis=1))

    def take(self, rows: Rows) -> OutcomeTable:
        """The table of some rows: ``(k,)`` row numbers, in their order, or an ``(n,)`` mask."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        kept = numbers.tolist()
        return replace(
            self,
            queries=[self.queries[row] for row in kept],
            tasks=[self.tasks[row] for row in kept],
            responses=None if self.responses is None else [self.responses[row] for row in kept],
            logprobs=None if self.logprobs is None else [self.logprobs[row] for row in kept],
            **{name: getattr(self, name)[numbers] for name in ARRAYS},
        )

    def with_models(self, models: Sequence[str]) -> OutcomeTable:
        """The table of some models, in the given order.

        Raises:
            InputError: the table lacks one of them; names those that it has.
        """
        missing = [model for model in models if model not in self.models]
        if missing:
            known = known_names(missing[0], self.models, "they hold")
            raise InputError(f'the outcomes hold no model "{missing[0]}"; {known}')
        columns = [self.models.index(model) for model in models]
        responses, logprobs = self.responses, self.logprobs
        return replace(
            self,
            models=tuple(models),
            responses=None if responses is None else [tuple(row[column] for column in columns) for row in responses],
            logprobs=None if logprobs is None else [tuple(row[column] for column in columns) for row in logprobs],
            **{name: getattr(self, name)[:, columns] for name in ARRAYS},
        )


ARRAYS = tuple(field.name for field in fields(OutcomeTable) if str(field.type) in ("Floats", "NDArray[np.bool_]"))
"""Names of the ``(n, m)`` fields of :class:`OutcomeTable`."""
