"""Queries in other languages than the examples', with the joined encoder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from semroute.encoders.multilingual import JoinedEncoder
from semroute.router import Router
from semroute.types import Matrix

EXAMPLES = {
    "cooking": ["how long do I boil an egg", "recipe for carrot soup", "what can replace butter in a cake",
                "knead bread dough by hand", "season a cast iron pan", "is raw salmon safe to eat"],
    "law": ["is my lease binding", "can my landlord keep the deposit", "what is a non-compete clause",
            "how do I appeal a court ruling", "do I need a will", "rights when I am arrested"],
    "translation": ["translate this letter into French", "how do you say thank you in Japanese",
                    "what does the German word Feierabend mean", "say good morning in Spanish",
                    "put this sentence into Italian: I am tired", "translate 'where is the station' to Polish"],
}  # fmt: skip
MODELS = dict.fromkeys(EXAMPLES, "small")
SWEDISH = [
    "hur länge ska ett ägg koka",
    "recept på morotssoppa",
    "kan jag byta ut smör i en kaka",
    "hur knådar man deg",
]


@pytest.fixture(scope="module")
def router(joined_encoder: JoinedEncoder) -> Iterator[Router]:
    with Router.from_examples(EXAMPLES, MODELS, fallback="large", encoder=joined_encoder, config={}) as made:
        yield made


@pytest.mark.parametrize(
    ("query", "category"),
    [
        ("wie lange muss ein Ei kochen", "cooking"),
        ("¿puede mi casero quedarse con la fianza?", "law"),
        ("にんじんスープのレシピ", "cooking"),
        ("Übersetze ins Schwedische: guten Morgen", "translation"),
        ("comment dit-on merci en japonais", "translation"),
        ("можно ли есть сырой лосось", "cooking"),
    ],
    ids=["de", "es", "ja", "de-translation", "fr-translation", "ru"],
)
def test_a_query_in_a_known_language_goes_where_its_english_examples_are(
    router: Router, query: str, category: str
) -> None:
    decision = router.route(query)
    assert decision.categories[0].category == category
    assert "does not know" not in decision.reason


@pytest.mark.parametrize(
    ("query", "language"),
    [
        ("kan min hyresvärd behålla depositionen", "sv"),
        ("मैं अंडा कितनी देर उबालूं", "hi"),
        ("πόση ώρα βράζω ένα αυγό", "el"),
    ],
    ids=["sv", "hi", "el"],
)
def test_a_query_in_an_unknown_language_goes_to_the_fallback_and_says_so(
    router: Router, query: str, language: str
) -> None:
    decision = router.route(query)
    assert (decision.category, decision.is_fallback) == (None, True)
    assert decision.reason == (
        f"the index's encoder does not know the language of the text ({language}), so that it fits no category"
    )


def test_a_text_without_a_known_word_still_says_that(router: Router) -> None:
    assert "knows no word" in router.route("🫠🫠").reason


def test_the_language_of_an_indexs_own_examples_is_known(joined_encoder: JoinedEncoder) -> None:
    before = joined_encoder.languages
    examples = EXAMPLES | {"cooking": [*EXAMPLES["cooking"], *SWEDISH]}
    try:
        with Router.from_examples(examples, MODELS, fallback="large", encoder=joined_encoder, config={}) as router:
            assert router.route("hur länge ska potatis koka").categories[0].category == "cooking"
            assert "does not know" not in router.route("hur länge ska potatis koka").reason
            assert "does not know" in router.route("meddig kell főzni egy tojást").reason
    finally:
        joined_encoder.languages = before


def test_concurrent_queries_are_encoded_in_one_thread(
    router: Router, joined_encoder: JoinedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, encode = set[str](), joined_encoder.encode

    def noting(texts: Sequence[str]) -> Matrix:
        threads.add(threading.current_thread().name)
        return encode(texts)

    async def ask() -> None:
        await asyncio.gather(*(router.aroute(f"how long do I boil {number} eggs") for number in range(12)))

    monkeypatch.setattr(joined_encoder, "encode", noting)
    asyncio.run(ask())
    assert len(threads) == 1
