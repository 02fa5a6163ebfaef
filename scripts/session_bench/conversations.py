"""Conversations of a made-up coding agent: asks, calls, lengths."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Shape: TypeAlias = Literal["mixed", "hard first"]

CHARS_A_TOKEN = 4
"""Characters that count as a token here, in any text."""
MOST_CALLS = 6
RESULT_TOKENS, CALL_TOKENS, ANSWER_TOKENS = (150, 1500), (40, 120), (120, 700)
"""Shortest and longest tool result, tool call and answer, in tokens."""
_WORDS = ("def", "return", "value", "of", "self", "index", "for", "row", "in", "table", "None", "if", "key")


@dataclass(frozen=True, slots=True)
class Ask:
    """One ask of a user, and what the model does with it.

    Attributes:
        text: the ask, which alone chooses the category.
        is_easy: whether the small model is good enough for it.
        calls: output tokens of each tool call that it makes before the answer.
        results: tokens of their results.
        answer: output tokens of the answer.
    """

    text: str
    is_easy: bool
    calls: tuple[int, ...]
    results: tuple[int, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation: a system prompt of ``prefix`` tokens, and asks."""

    number: int
    prefix: int
    asks: tuple[Ask, ...]

    @property
    def requests(self) -> int:
        """Requests that it takes: one for each tool call and one for each answer."""
        return sum(len(ask.calls) + 1 for ask in self.asks)


@dataclass(frozen=True, slots=True)
class Mix:
    """Kind of conversations.

    Attributes:
        pair: name of the two models' prices.
        prefix: tokens of the system prompt and tools.
        easy: share of easy asks.
        shape: ``mixed``: each ask is easy by chance; ``hard first``: the hard ones come first, the easy ones after.
        most_calls: most tool calls of an ask.
    """

    pair: str
    prefix: int
    easy: float
    shape: Shape = "mixed"
    most_calls: int = MOST_CALLS

    def __str__(self) -> str:
        shape = "" if self.shape == "mixed" else ", the hard ones first"
        tools = "" if self.most_calls else ", no tools"
        return f"{self.pair}, {self.prefix // 1000}k, {self.easy:.0%} easy{shape}{tools}"


def conversations(
    mix: Mix, texts: Mapping[bool, Sequence[str]], count: int, requests: tuple[int, int], seed: int
) -> list[Conversation]:
    """Return conversations of a mix, the same for the same seed.

    Args:
        mix: their kind.
        texts: asks that are easy, and asks that are not.
        count: number of conversations.
        requests: least and most requests of one, about.
        seed: of the random numbers.
    """
    found = []
    for number in range(count):
        # The same asks' lengths in every mix, so that mixes differ in what they are named by alone.
        lengths = random.Random(f"{seed} {number}")
        wanted, asks = lengths.randint(*requests), list[tuple[tuple[int, ...], tuple[int, ...], int]]()
        while sum(len(calls) + 1 for calls, _, _ in asks) < wanted:
            calls = tuple(lengths.randint(*CALL_TOKENS) for _ in range(lengths.randint(0, mix.most_calls)))
            results = tuple(lengths.randint(*RESULT_TOKENS) for _ in calls)
            asks.append((calls, results, lengths.randint(*ANSWER_TOKENS)))
        chance = random.Random(f"{seed} {number} easy")
        easy = [chance.random() < mix.easy for _ in asks]
        if mix.shape == "hard first":
            easy = [place >= round((1 - mix.easy) * len(asks)) for place in range(len(asks))]
        chosen = (Ask(chance.choice(texts[is_easy]), is_easy, *ask) for is_easy, ask in zip(easy, asks, strict=True))
        found.append(Conversation(number, mix.prefix, tuple(chosen)))
    return found


def filler(tokens: int, key: object) -> str:
    """Return a text of so many tokens, which begins with its key."""
    chance, text = random.Random(str(key)), [str(key)]
    length = len(text[0])
    while length < tokens * CHARS_A_TOKEN:
        text.append(chance.choice(_WORDS))
        length += len(text[-1]) + 1
    return " ".join(text)
