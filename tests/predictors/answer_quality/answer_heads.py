"""Answers that a classifier can learn from: bad ones state wrong sums, and their tokens are unlikely."""

from __future__ import annotations

from random import Random

import numpy as np

from semroute.learn.answer_quality import JudgedAnswers


def made(n: int, *, seed: int = 0, logprobs: bool = False, noise: float = 0.1) -> JudgedAnswers:
    """``n`` answers, half of them good but for a share of labels that are drawn at random."""
    random = Random(seed)
    queries, answers, told, good = [], [], [], []
    for number in range(n):
        a, b, is_good = random.randint(2, 99), random.randint(2, 99), number % 2 == 0
        queries.append(f"Query {number}: what is {a} and {b} together?")
        answers.append(f"That is {a} + {b} = {a + b + (0 if is_good else random.randint(5, 50))}.")
        level = -0.1 if is_good else -1.5
        told.append([level * random.random() for _ in range(20)] if logprobs else [])
        good.append(random.random() < 0.5 if random.random() < noise else is_good)
    return JudgedAnswers(queries, answers, told, np.array(good), np.arange(n))
