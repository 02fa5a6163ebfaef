"""Telling languages apart: held to a set of short queries, one half of which chose the threshold."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.errors import MissingExtraError
from semroute.text import language
from semroute.text.language import LANGUAGES, detect_language, language_outside

ROWS = [json.loads(line) for line in (Path(__file__).parents[1] / "samples/languages.jsonl").read_bytes().splitlines()]
TEST = [row for row in ROWS if row["part"] == "test"]


@pytest.mark.slow
def test_of_the_rows_kept_apart_nearly_all_short_queries_get_their_language():
    asked = [row for row in TEST if row["language"] is not None]

    right = sum(detect_language(row["text"]) == row["language"] for row in asked)

    assert len(asked) == 96
    assert right >= 91


def test_text_without_a_language_gets_none():
    texts = [row["text"] for row in TEST if row["language"] is None]

    assert [detect_language(text) for text in texts] == [None] * 12


def test_every_language_of_the_set_is_detected():
    assert {row["language"] for row in ROWS} - {None} <= LANGUAGES


def test_a_long_text_is_judged_by_its_ends_and_costs_no_more():
    german = "Bitte erkläre mir, wie eine Wärmepumpe im Winter funktioniert. "

    assert detect_language(german * 20_000) == "de"


def test_capitals_do_not_change_the_language():
    assert detect_language("ICH HABE MEIN PASSWORT VERGESSEN") == "de"


@pytest.mark.slow
@given(st.text())
def test_any_text_gives_a_known_code_or_none(text):
    assert detect_language(text) in LANGUAGES | {None}


def test_a_lone_surrogate_does_no_harm():
    assert detect_language("\ud800") in LANGUAGES | {None}


@pytest.mark.slow
def test_threads_that_come_together_load_the_model_once_and_agree(monkeypatch):
    loads = []
    real = language.require

    def counting(*args, **kwargs):
        loads.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(language, "require", counting)
    monkeypatch.setattr(language, "_identifier", None)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(detect_language, ["Ich habe mein Passwort vergessen"] * 32))

    assert answers == ["de"] * 32
    assert len(loads) == 1


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setattr(language, "_identifier", None)
    monkeypatch.setitem(sys.modules, "py3langid", None)
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)

    with pytest.raises(MissingExtraError, match=r"semroute-router\[language\]"):
        detect_language("Guten Morgen")
    with pytest.raises(MissingExtraError, match=r"semroute-router\[language\]"):
        language.prepare_language_detection()


def test_importing_texts_loads_no_model():
    code = "import sys, semroute.text; sys.exit('py3langid' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "language_code"),
    [("var är min beställning", "sv"), ("hol van a rendelésem", "hu"), ("where is my order", None), ("1 + 1", None)],
    ids=["sv", "hu", "en", "none"],
)
def test_a_language_outside_the_known_ones_is_named(text, language_code):
    assert language_outside(text, {"en", "de"}) == language_code
    assert language_outside(text, LANGUAGES) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["swahili → english: Haraka haraka haina baraka", "„var är min bok“ auf Deutsch", "'var är min bok' in English"],
    ids=["arrow", "german quotes", "apostrophes"],
)
def test_a_text_of_which_a_part_is_in_a_known_language_is_known(text):
    assert language_outside(text, {"en", "de"}) is None


def test_a_language_outside_needs_the_extra(monkeypatch):
    monkeypatch.setattr(language, "_identifier", None)
    monkeypatch.setitem(sys.modules, "py3langid", None)
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)

    with pytest.raises(MissingExtraError, match=r"semroute-router\[language\]"):
        language_outside("Guten Morgen", {"en"})
