"""What long work reports as it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Takes the name of a step, what is done of it, and all of it."""

StepProgress: TypeAlias = Callable[[int, int], None]
"""Takes what is done of the one step, and all of it."""
