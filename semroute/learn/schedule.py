"""The learning rate over the steps of a training."""

from __future__ import annotations


def warmed_up(step: int, steps: int) -> float:
    """Factor of the peak rate at ``step`` (from 0): up over a tenth of ``steps``, then down in a straight line to 0."""
    warm_up = max(1, steps // 10)
    return (step + 1) / warm_up if step < warm_up else max(0.0, (steps - step) / max(1, steps - warm_up))
