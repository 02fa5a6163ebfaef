"""Hand-written rows and the texts composed of them.

Needs nothing of semroute.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

NAMES = ("Anna", "Peter", "Maria", "Tom", "Leila", "Jonas", "Priya", "Ivan", "Chloe", "Diego", "Mei")
SURNAMES = ("Berg", "O'Neill", "Santos", "Kowalski", "Meyer", "Haddad", "Lindqvist", "Rossi", "Park")
SEPARATORS = ("\n\n", "\n", "\n\n")
FORMS = ("alone", "after", "before", "code", "vague")


@dataclass(frozen=True, slots=True)
class Pasted:
    """Query with its true category, and its form: one of :data:`FORMS`."""

    form: str
    text: str
    category: str


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def pasted_rows(path: Path) -> Iterator[Pasted]:
    """Yield each question alone, with a document, and with code.

    The document is of another category, and stands before or after the question.
    """
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    documents, code = data["documents"], data["code"]
    for number, (category, question) in enumerate(data["questions"]):
        yield Pasted("alone", question, category)
        others = [one["text"].strip() for one in documents if one["category"] != category]
        between = SEPARATORS[number % len(SEPARATORS)]
        yield Pasted("after", others[(3 * number + 1) % len(others)] + between + question, category)
        yield Pasted("before", question + between + others[(5 * number + 2) % len(others)], category)
        if category != "code":
            snippet = code[number % len(code)].rstrip("\n")
            snippet = f"```\n{snippet}\n```" if number % 2 else snippet
            parts = (question, snippet) if number % 4 < 2 else (snippet, question)
            yield Pasted("code", SEPARATORS[number % len(SEPARATORS)].join(parts), category)
    for number, (category, question, side, which) in enumerate(data["vague"]):
        text = code[int(which[1:])] if isinstance(which, str) else documents[which]["text"]
        parts = (question, text.strip()) if side == "before" else (text.strip(), question)
        yield Pasted("vague", SEPARATORS[number % len(SEPARATORS)].join(parts), category)


def twins_of(text: str, number: int, forms: Sequence[str]) -> list[str]:
    """Fill each form with ``text``; its variations are drawn by ``number``."""
    found = []
    for place, form in enumerate(forms):
        draw = random.Random(1000 * place + number)
        values = {
            "text": text,
            "n": draw.randrange(1000, 99999),
            "d": draw.randrange(10, 29),
            "hex": f"{draw.getrandbits(32):08x}",
            "name": draw.choice(NAMES),
            "surname": draw.choice(SURNAMES),
            "typo": _with_typo(text, draw),
            "swap": _with_swap(text, draw),
            "doubled": _with_doubled_word(text, draw),
            "case": "".join(draw.choice((str.upper, str.lower))(character) for character in text),
            "upper": text.upper(),
        }
        found.append(form.format(**values))
    return found


def combinations(large: dict[str, Any]) -> list[str]:
    """Return each filled pattern of a big, templated category once."""
    fields = ("a", "b", "c", "d")
    filled = (
        pattern.format(**dict(zip(fields, values, strict=True)))
        for values in product(*(large[field] for field in fields))
        for pattern in large["patterns"]
    )
    return list(dict.fromkeys(filled))


def _with_typo(text: str, draw: random.Random) -> str:
    place = draw.choice([place for place, character in enumerate(text) if character.isalpha()])
    return text[:place] + draw.choice("abcdefghijklmnopqrstuvwxyz") + text[place + 1 :]


def _with_swap(text: str, draw: random.Random) -> str:
    places = [place for place in range(1, len(text) - 1) if text[place].isalpha() and text[place + 1].isalpha()]
    place = draw.choice(places)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _with_doubled_word(text: str, draw: random.Random) -> str:
    words = text.split(" ")
    place = draw.randrange(len(words))
    return " ".join([*words[: place + 1], *words[place:]])
