"""What an answer and its query look like, as numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

from semroute.texts.arithmetic import Arithmetic, arithmetic, numbers
from semroute.texts.code import looks_like_code

MOST_CHARACTERS = 20_000
"""Of a text; the rest of a longer one is counted in its length alone."""

_SENTENCE = re.compile(r"[.!?…。！？](?=\s|$)")
_FINAL = re.compile(r"####|\banswer(?: is)?:?\s|\\boxed\{|\btherefore\b|\bin total\b", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:however|assum\w*|unclear|not sure|unsure|might|perhaps|probably|approximately|maybe)\b", re.IGNORECASE
)
_NOT = re.compile(r"\b(?:not|no|never|none|cannot)\b|n't\b", re.IGNORECASE)
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"), ("<<", ">>"))
_FEW = 6


def shape(query: str, answer: str) -> Mapping[str, float]:
    """The features by name, in an order that never changes; lengths as logarithms, counts cut to a few.

    Those of the answer: how long it is, whether it ends as a whole answer does, whether brackets and fences are closed,
    whether it marks a result, hedges, denies or asks; the sums that it states and whether they are right; its last
    number. Those of both: how many of the query's numbers the answer uses, and the ratio of their lengths. Those of
    the query: length, sentences, questions, numbers.
    """
    asked, said = query[:MOST_CHARACTERS], answer[:MOST_CHARACTERS]
    return MappingProxyType({**_form(answer, said), **_figures(asked, said), **_query(query, asked, answer)})


def _form(answer: str, said: str) -> dict[str, float]:
    end = said.rstrip()[-1:]
    return {
        "characters": math.log1p(len(answer)),
        "words": math.log1p(len(said.split())),
        "lines": math.log1p(said.strip().count("\n")),
        "sentences": math.log1p(len(_SENTENCE.findall(said))),
        "ends a sentence": float(end in '.!?…。！？)"*' and end != ""),
        "ends in a digit": float(end.isdigit()),
        "ends a line": float(said.endswith("\n")),
        "open brackets": float(any(said.count(opened) != said.count(closed) for opened, closed in _PAIRS)),
        "open fence": float(said.count("```") % 2),
        "marks a result": float(_FINAL.search(said) is not None),
        "result mark": float("####" in said),
        "hedges": float(min(len(_HEDGE.findall(said)), _FEW)),
        "denials": float(min(len(_NOT.findall(said)), _FEW)),
        "questions": float(min(said.count("?"), _FEW)),
        "code": float(looks_like_code(said)),
    }


def _figures(asked: str, said: str) -> dict[str, float]:
    found, given = numbers(said), numbers(asked)
    sums: Arithmetic = arithmetic(said)
    stated = sums.right + sums.wrong
    last = found[-1] if found else 0.0
    return {
        "numbers": math.log1p(len(found)),
        "sums": math.log1p(stated),
        "right sums": math.log1p(sums.right),
        "wrong sums": float(min(sums.wrong, _FEW)),
        "a wrong sum": float(sums.wrong > 0),
        "share of right sums": sums.right / stated if stated else 0.5,
        "last number": math.log1p(last),
        "last is whole": float(last == int(last)),
        "last was given": float(last in given),
        "last is repeated": float(found.count(last) > 1),
        "new numbers": math.log1p(len(set(found) - set(given))),
        "given numbers": math.log1p(len(given)),
        "given numbers used": sum(one in found for one in given) / len(given) if given else 0.5,
    }


def _query(query: str, asked: str, answer: str) -> dict[str, float]:
    return {
        "query characters": math.log1p(len(query)),
        "query words": math.log1p(len(asked.split())),
        "query sentences": math.log1p(len(_SENTENCE.findall(asked))),
        "query questions": float(min(asked.count("?"), _FEW)),
        "query per cent": float("%" in asked),
        "query fraction": float("/" in asked),
        "query code": float(looks_like_code(asked)),
        "length ratio": math.log1p(len(answer)) - math.log1p(len(query)),
    }


SHAPE = tuple(shape("", ""))
"""Names of the features."""
