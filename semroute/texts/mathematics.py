"""Signs of mathematics and logic in a text."""

from __future__ import annotations

import re

_SYMBOL = re.compile(r"[√∛∑∏∫∂∇∞≈≡≠≤≥±×÷∈∉⊂⊆∪∩∧∨¬⊃∀∃→↔⇒⇔∴²³⁰¹⁴-⁹₀-₉πθλμσΔΣΩ]")
_LATEX = re.compile(r"\\(?:frac|sqrt|sum|int|cdot|times|le|ge|neq|alpha|beta|pi|theta|left|right|begin|text|mathbb)\b")
_EQUATION = re.compile(r"[\w)\]]\s?=\s?[-\w($\\]")
_POWER = re.compile(r"[\w)]\s?\^\s?[\w({-]|\*\*\s?\d")
_FUNCTION = re.compile(r"\b(?:sin|cos|tan|log|ln|exp|lim|det|mod|gcd|lcm)\b|\b[fgh]\s?\(\s?[-\w]{1,4}\s?\)")
_UNIT = re.compile(
    r"\d\s?(?:km|cm|mm|kg|mg|mL|ml|Hz|kHz|MHz|eV|kJ|J|W|kW|V|N|Pa|mol|m/s|°C?|K|nm|hours?|minutes?|miles?)\b"
)


def symbols(text: str) -> int:
    """Symbols of mathematics and logic, Greek letters of formulas, raised and lowered figures, LaTeX commands."""
    return len(_SYMBOL.findall(text)) + len(_LATEX.findall(text))


def formulas(text: str) -> int:
    """Equations, powers and named functions."""
    return len(_EQUATION.findall(text)) + len(_POWER.findall(text)) + len(_FUNCTION.findall(text))


def units(text: str) -> int:
    """Numbers with a unit of measurement."""
    return len(_UNIT.findall(text))
