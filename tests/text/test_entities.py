from __future__ import annotations

from semroute.predictors.query_features import acronyms, amounts, dates, names


def test_names_are_capitals_within_a_sentence() -> None:
    assert names("In the film, Marie Curie meets Albert in Paris.") == 3
    assert names("The cat sat. It slept.") == 0
    assert names("nothing here") == 0


def test_acronyms_dates_and_amounts_are_counted() -> None:
    assert acronyms("the FBI and NASA, not a CD-ROM drive in I") == 4
    assert dates("from 1914 to 3/4/2021, in March") == 3
    assert dates("room 2450 or 999") == 0
    assert amounts("$5 and 20% and 3 dollars and € 7") == 4
    assert amounts("five apples") == 0
