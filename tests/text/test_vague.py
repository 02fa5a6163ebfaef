from __future__ import annotations

import pytest

from semroute.text.asks import VAGUE_ASKS, is_vague


@pytest.mark.parametrize(
    "text",
    [
        *VAGUE_ASKS,
        "what is this?",
        "Summarise.",
        "help with this please",
        "fix it",
        "any thoughts?",
        "explain",
        "What\u2019s wrong here?",
        "tl;dr",
        "???",
        "Was bedeutet das?",
        "peux-tu m'expliquer \u00e7a ?".replace("m'", ""),
        "\u00bfqu\u00e9 significa esto?",
    ],
)
def test_words_that_fit_any_text_are_vague(text: str) -> None:
    assert is_vague(text)


@pytest.mark.parametrize(
    "text",
    [
        "Translate this into French",
        "Is this legal?",
        "write a limerick about it",
        "where is my parcel",
        "How's the weather?",
        "explain photosynthesis",
        "what is an ETF?",
        "\u4e3a\u4ec0\u4e48",
        "Kann mich der Vermieter hinauswerfen?",
    ],
)
def test_a_word_with_a_subject_is_not_vague(text: str) -> None:
    assert not is_vague(text)
