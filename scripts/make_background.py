"""Write the queries of no category for builds.

    python scripts/make_background.py [--source FILE] [--out FILE] [--seed N]

Writes ``semroute/learn/background.txt``, a query a line, from the templates, words and lines of ``background.yaml``.
All of them were written for this; none is from a data set. The same source and seed give the same file. Seconds.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

SOURCE = Path(__file__).with_name("background.yaml")
OUT = Path(__file__).parents[1] / "semroute" / "learn" / "background.txt"
GIBBERISH = 150
TRIES = 30
"""Fillings of a template that are tried before it counts as used up."""
MISTYPED = 0.06
"""Share of the queries with a slip of a finger."""
_SLOT = re.compile(r"{(\w+)}")


@click.command()
@click.option("--source", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=SOURCE)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=OUT)
@click.option("--seed", type=int, default=0, show_default=True)
def main(source: Path, out: Path, seed: int) -> None:
    """Generate the queries and write them."""
    queries = generate(yaml.safe_load(source.read_text("utf-8")), seed)
    out.write_text("".join(f"{query}\n" for query in queries), "utf-8")
    click.echo(f"{len(queries):,} queries, {out.stat().st_size:,} bytes: {out}")


def generate(described: Mapping[str, Any], seed: int) -> list[str]:
    """Return distinct queries: filled templates, lines and gibberish."""
    draw = random.Random(seed)
    queries: list[str] = []
    for topic in described["topics"].values():
        words = {**described["common"], **topic["slots"]}
        queries += [_styled(query, draw) for query in _filled(topic["templates"], words, topic["count"], draw)]
    queries += [str(line) for line in described["lines"]]
    queries += [_gibberish(draw) for _ in range(GIBBERISH)]
    queries += [str(line) for lines in described["foreign"].values() for line in lines]
    return list(dict.fromkeys(queries))


def _filled(templates: Sequence[str], words: Mapping[str, Sequence[Any]], count: int, draw: random.Random) -> list[str]:
    """Fill the templates in turn, each filling once."""
    found: dict[str, None] = {}
    for turn in range(TRIES * count):
        if len(found) == count:
            break
        template = templates[turn % len(templates)]
        found.setdefault(_SLOT.sub(lambda slot: str(draw.choice(words[slot[1]])), template))
    return list(found)


def _styled(query: str, draw: random.Random) -> str:
    """Write some queries as people do: with a capital, a mark, a slip."""
    if draw.random() < MISTYPED and len(query) > 8:
        place = draw.randrange(1, len(query) - 2)
        query = query[:place] + query[place + 1] + query[place] + query[place + 2 :]
    style = draw.random()
    if style < 0.2:
        return query[0].upper() + query[1:] + draw.choice(["?", ".", ""])
    if style < 0.3:
        return draw.choice(["hey, ", "please ", "can you tell me ", "so ", "quick one: ", "ok "]) + query
    return query


def _gibberish(draw: random.Random) -> str:
    """Return words without meaning, or a run along the keyboard."""
    rows = ["qwertyuiop", "asdfghjkl", "zxcvbnm", string.digits, string.ascii_lowercase]
    words = []
    for _ in range(draw.randint(1, 4)):
        row = draw.choice(rows)
        words.append("".join(draw.choice(row) for _ in range(draw.randint(2, 9))))
    return " ".join(words)


if __name__ == "__main__":
    main()
