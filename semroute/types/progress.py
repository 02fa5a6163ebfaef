"""Progress callbacks of long-running work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Callback with the name of a step, the items done, and the total."""

StepProgress: TypeAlias = Callable[[int, int], None]
"""Callback with the items done of one step, and the total."""
