"""Times as people write them on a command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

if TYPE_CHECKING:
    _Base = click.ParamType[datetime]
else:  # generic only in newer releases of click
    _Base = click.ParamType


class Moment(_Base):
    """``7d`` (seven days ago; also s, m, h, w), or an ISO 8601 date or time; one without a zone is UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """A time with its zone."""
        if isinstance(value, datetime):
            return value
        words = str(value).strip()
        ago = _AGO.fullmatch(words)
        try:
            if ago is not None:
                return datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
            found = datetime.fromisoformat(words)
        except (ValueError, OverflowError):
            self.fail(f"{words!r} is no time: write 7d, 12h, 2026-11-01 or 2026-11-01T08:00+01:00", param, ctx)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


MOMENT = Moment()
since_option = click.option("--since", type=MOMENT, metavar="TIME", help="From then on: 7d, 12h, or 2026-11-01.")
"""``since: datetime | None``."""
until_option = click.option("--until", type=MOMENT, metavar="TIME", help="Before then.")
"""``until: datetime | None``."""
