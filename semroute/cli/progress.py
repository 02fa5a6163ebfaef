"""A bar for each step of long work, on standard error; nothing where that is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from semroute.cli.console import stderr


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Hand out a function of step, done and total that draws the steps, one line each."""
    console = stderr()
    columns = (
        TextColumn("{task.description:<18}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[count]:>15}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=None, count="")
            # Without a total the bar pulses: what has only one part shows that it is alive.
            count = f"{done:,}/{total:,}" if total > 1 else ""
            bars.update(tasks[step], completed=done, total=total if done or total > 1 else None, count=count)

        yield show
