"""Builds with the built-in encoder on examples that people have: near twins, and a small category beside a big one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from semroute.encoders.export import ExportedEncoder
from semroute.evaluate.routing import decide
from semroute.learn.artifact import Examples, build_artifact, fit_examples
from semroute.learn.fit import FitOptions, Fitted, fit
from semroute.learn.near_twins import near_twins
from semroute.types import Encoder

EXAMPLES = {
    "book": "I need a double room for two nights|reserve a suite for Friday|book me a single with a sea view|"
    "is there a family room available in July|can I get a room tonight|put me down for a twin room",
    "breakfast": "what time is breakfast|is breakfast included|do you serve vegan breakfast|can I order eggs|"
    "when does the breakfast buffet close|is there coffee before seven",
    "cancel": "cancel my reservation|I won't be coming after all|please call off my stay|I need to drop my booking|"
    "delete the reservation under Miller|our trip fell through, undo the booking",
}
PARAPHRASES = {
    "book": "I'd like to reserve a double room|I want to book a suite|a twin room for three nights|need a room tonight|"
    "any family rooms left for August|make a reservation for a single room",
    "breakfast": "when do you serve breakfast|what vegan options are there for breakfast|until when is the buffet open|"
    "is the breakfast part of the price|can I get scrambled eggs in the morning|coffee at six in the morning?",
    "cancel": "I have to cancel my stay|please cancel the booking for Smith|we are not coming, cancel the room|"
    "call off our reservation|remove my booking for Saturday|undo my reservation",
}
TWINS: dict[str, Callable[[str], list[str]]] = {
    "case": lambda text: [text.upper()],
    "stop": lambda text: [f"{text}."],
    "space": lambda text: [text.replace(" ", "  ")],
    "courtesy": lambda text: [f"please {text}", f"{text}, thanks", f"hello, {text}!"],
    "number": lambda text: [f"{text} (room {number})" for number in (12, 230, 57)],
    "name": lambda text: [f"my name is {name}, {text}" for name in ("Anna", "Peter", "Maria")],
}


@pytest.fixture(scope="module")
def encoder(exported_encoder: ExportedEncoder) -> Encoder:
    return exported_encoder.load()


def fitted(encoder: Encoder, texts: list[str], labels: NDArray[np.int64], *, grouped: bool = True) -> Fitted:
    vectors = encoder.encode(texts)
    if not grouped:
        return fit(vectors, labels, options=FitOptions(head=False))
    names = [str(label) for label in range(labels.max() + 1)]
    owners = tuple(str(label) for label in labels)
    examples = Examples(tuple(texts), owners, dict.fromkeys(names, ""), dict.fromkeys(names, ("m",)), {})
    return fit_examples(examples, vectors, encoder, near_twins(texts, labels, vectors), options=FitOptions(head=False))


def accepted(found: Fitted, encoder: Encoder, queries: dict[str, str]) -> float:
    """Share of queries that land in their category and are accepted there; keys in the categories' order."""
    texts = [text for one in queries.values() for text in one.split("|")]
    labels = np.repeat(np.arange(len(queries)), [one.count("|") + 1 for one in queries.values()])
    top, enough = decide(found.scorer.scores(encoder.encode(texts)), found.thresholds)
    return float(np.mean(enough & (top == labels)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", TWINS)
def test_near_twins_neither_raise_thresholds_nor_reject_paraphrases(encoder: Encoder, kind: str) -> None:
    natural = {name: text.split("|") for name, text in EXAMPLES.items()}
    texts = [text for one in natural.values() for text in one]
    labels = np.repeat(np.arange(3), 6)
    plain = fitted(encoder, texts, labels)
    both = [[text, *TWINS[kind](text)] for text in texts]
    doubled = [text for pair in both for text in pair]
    owners = np.repeat(labels, [len(pair) for pair in both])
    found = fitted(encoder, doubled, owners)
    blind = fitted(encoder, doubled, owners, grouped=False)
    # Words before every example move its vector: with them not all are recognised.
    assert len(texts) <= found.report["groups"] <= (2 * len(texts) if kind == "name" else len(texts))
    if kind in ("number", "name"):  # three of four examples say something that no paraphrase does
        assert accepted(found, encoder, PARAPHRASES) > accepted(blind, encoder, PARAPHRASES)
    else:
        assert accepted(found, encoder, PARAPHRASES) >= accepted(plain, encoder, PARAPHRASES) - 0.06
        assert found.thresholds.max() < plain.thresholds.max() + 0.15
    assert found.thresholds.mean() < blind.thresholds.mean() - 0.03  # without groups each is judged by its twin


@pytest.mark.slow
@pytest.mark.parametrize("form", ["#{0}: {1}", "2024-03-{0} 10:{0} {1}", '{{"text": "{1}"}}'])
def test_boilerplate_around_every_example_rejects_neither_plain_paraphrases_nor_those_with_it(
    encoder: Encoder, tmp_path: Path, form: str
) -> None:
    texts = [text for one in EXAMPLES.values() for text in one.split("|")]
    twice = [form.format(number, text) for text in texts for number in (11, 27)]
    owners = tuple(name for name in EXAMPLES for _ in range(12))
    examples = Examples(tuple(twice), owners, dict.fromkeys(EXAMPLES, ""), dict.fromkeys(EXAMPLES, ("m",)), {})
    artifact, scorer, _ = build_artifact(
        tmp_path / "index", examples, encoder.encode(twice), encoder, options=FitOptions(head=False)
    )
    assert artifact.manifest.validation["examples"] == len(twice)  # what is stored is what was given
    assert artifact.manifest.validation["groups"] == len(texts)
    thresholds = np.array([entry.threshold for entry in artifact.manifest.categories.values()])
    found = Fitted(scorer, thresholds, {})
    around = {name: "|".join(form.format(34, one) for one in some.split("|")) for name, some in PARAPHRASES.items()}
    blind = fit(
        encoder.encode(twice),
        np.repeat(np.arange(3), 12),
        groups=np.repeat(np.arange(18), 2),
        options=FitOptions(head=False),
    )
    assert accepted(found, encoder, PARAPHRASES) >= 0.9
    assert accepted(found, encoder, around) >= 0.9
    assert accepted(found, encoder, PARAPHRASES) > accepted(blind, encoder, PARAPHRASES)


@pytest.mark.slow
def test_a_small_category_beside_a_templated_big_one_keeps_its_paraphrases(encoder: Encoder) -> None:
    big = [
        f"{verb} {what} {when}"
        for verb in ("where is", "track", "locate", "find", "what about")
        for what in ("my parcel", "the delivery", "our shipment", "my package")
        for when in ("today", "please", "right now", "sent by my aunt", "from Berlin")
    ]
    small = ["I want my money back", "refund the broken lamp", "how do I return a gift for a refund"]
    found = fitted(encoder, [*big, *small], np.repeat([0, 1], [len(big), len(small)]))
    queries = "refund my lost parcel|give me my money back please|how do I get a refund|return this and refund me"
    assert found.thresholds[1] < found.thresholds[0] - 0.05
    top, enough = decide(found.scorer.scores(encoder.encode(queries.split("|"))), found.thresholds)
    assert top.tolist() == [1] * 4
    assert enough.all()
