"""Figures of a report as text."""

from __future__ import annotations

from datetime import UTC, datetime


def usd(value: float | None) -> str:
    """USD: cents from a dollar on, else as many digits as say something; a dash for what is not known."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 1:
        return f"{value:,.2f}"
    return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.7f}"


def percent(value: float | None) -> str:
    """A share; a dash where it is not defined."""
    return "-" if value is None or value != value else f"{value:.1%}"


def ms(value: float | None) -> str:
    """Milliseconds; a dash where there were none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def moment(seconds: float) -> str:
    """A time, UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
