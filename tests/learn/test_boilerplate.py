from __future__ import annotations

import time

import numpy as np
import pytest

from semroute.learn.near_twins import near_twins, without_boilerplate

TEXTS = {
    "order": [
        "cancel my order",
        "where is my parcel today",
        "the shoes do not fit",
        "send it to my office",
        "has anybody seen the courier",
        "track the blue jacket for me",
    ],
    "bill": [
        "I was charged twice",
        "send me last month's invoice",
        "pay by bank transfer from now on",
        "why is the total so high",
        "remove the old credit card",
        "refund what I paid in March",
    ],
}
PLAIN = [text for some in TEXTS.values() for text in some]
LABELS = np.repeat([0, 1], 6)
NAMES = ("Anna", "Peter", "Mei", "Ivan", "Leila", "Tom")
FORMS = [
    "#{0}: {2}",
    "[TICKET-{0}] {2}",
    "Q: {2}",
    "Subject: Re: {2}",
    "2024-01-0{0} 10:{0}5 {2}",
    "{1}: {2}",
    "{1} {1}son: {2}",
    "{0}) {2}",
    "\u2022 {2}",
    "- [ ] {2}",
    "\u00ab{2}\u00bb",
    '{{"query": "{2}"}}',
    "<p>{2}</p>",
    "{2}\n\nBest regards\n{1}",
    "{2}\n--\n{1} {1}son\nSent from my phone",
    "{2} (id {0}f3a)",
    "{2} \U0001f64f",
    "could you help me with this: {2}",
    "I wanted to ask you {2}",
    "{2} thank you so much",
]


def formed(form: str, start: int = 1) -> list[str]:
    return [form.format(start + place, NAMES[(place + start) % 6], text) for place, text in enumerate(PLAIN)]


@pytest.mark.parametrize("form", FORMS)
def test_boilerplate_around_examples_is_removed(form: str) -> None:
    found = without_boilerplate(formed(form), LABELS)
    assert found.texts == PLAIN
    assert found.rows.tolist() == list(range(len(PLAIN)))


@pytest.mark.parametrize("form", FORMS)
def test_an_example_and_the_same_with_boilerplate_are_twins(form: str) -> None:
    groups = near_twins([*PLAIN, *formed(form), *formed(form, 3)], np.tile(LABELS, 3))
    assert groups.tolist() == [*range(12)] * 3


def test_several_forms_at_once_are_taken_off() -> None:
    texts = [form.format(place, NAMES[place % 6], text) for form in FORMS[:3] for place, text in enumerate(PLAIN)]
    assert without_boilerplate(texts, np.tile(LABELS, 3)).texts == PLAIN * 3


def test_plain_examples_stay_as_they_are() -> None:
    found = without_boilerplate(PLAIN, LABELS)
    assert found.texts == PLAIN
    assert not len(found.rows)


@pytest.mark.parametrize(
    "texts",
    [
        [f"set a timer for {number} minutes {number}" for number in range(2, 9)],
        [f"table for two at {number}:30pm" for number in range(2, 9)],
        [f"how do I say {word}?" for word in ("bread", "milk", "good night", "cheese", "please", "train")],
        ["improve my credit score", "what lowers a credit score", "check the credit score", "raise my credit score"],
    ],
)
def test_boilerplate_of_one_category_is_kept(texts: list[str]) -> None:
    found = without_boilerplate([*texts, *PLAIN], np.concatenate([np.full(len(texts), 2), LABELS]))
    assert found.texts == [*texts, *PLAIN]


def test_a_heading_of_one_category_makes_twins_but_no_other_vectors() -> None:
    texts = [*(f"Translate: {text}" for text in PLAIN[:6]), *PLAIN[6:]]
    found = without_boilerplate(texts, LABELS)
    assert found.texts == PLAIN
    assert not len(found.rows)


def test_boilerplate_removal_leaves_words() -> None:
    texts = [f"#{number}: {word}" for number, word in enumerate(("yes", "no", "maybe", "sure", "never"))]
    assert without_boilerplate(texts, np.zeros(5, np.int64)).texts == texts


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["[", "1 ", "\n", "a:", "\u00ab"])
def test_hostile_texts_take_time_in_proportion(unit: str) -> None:
    def seconds(count: int) -> float:
        start = time.process_time()
        without_boilerplate([unit * 500] * count, np.zeros(count, np.int64))
        return time.process_time() - start

    seconds(10)
    assert seconds(2_000) < 60 * max(seconds(200), 0.005)
