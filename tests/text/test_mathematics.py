from __future__ import annotations

from semroute.predictors.query_features import formulas, symbols, units


def test_symbols_are_those_of_formulas_and_of_latex() -> None:
    assert symbols("∀x (x ≥ 0 → √x exists)") == 4
    assert symbols(r"\frac{1}{2} \cdot \sqrt{3}") == 3
    assert symbols("I went → no, just words: alpha, beta") == 1
    assert symbols("plain words") == 0


def test_formulas_are_equations_powers_and_functions() -> None:
    assert formulas("let y = 3x and z = x^2") == 3
    assert formulas("sin(x) + log 5") == 2
    assert formulas("I am fine") == 0


def test_units_follow_a_number() -> None:
    assert units("5 km in 2 hours at 20°C") == 3
    assert units("kilograms of sugar") == 0
