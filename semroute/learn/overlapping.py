"""The overlaps of an artifact's categories, by name and text."""

from __future__ import annotations

from dataclasses import dataclass

from semroute.evaluate.overlap import Overlap, overlaps
from semroute.index import Artifact
from semroute.learn.build import Examples
from semroute.learn.stored import stored_examples


@dataclass(frozen=True, slots=True)
class NamedStray:
    """An example, its cosine to the nearest of its own category, and the example of the other that is nearer."""

    query: str
    own: float
    rival: str
    other: float


@dataclass(frozen=True, slots=True)
class NamedOverlap:
    """:class:`~semroute.evaluate.overlap.Overlap` with names and texts."""

    category: str
    other: str
    share: float
    count: int
    worst: tuple[NamedStray, ...]


def overlapping(artifact: Artifact, *, worst: int = 3) -> list[NamedOverlap]:
    """Which categories of an artifact overlap most, and the ``worst`` examples of each pair.

    Raises:
        ArtifactError: the stored examples are unusable.
    """
    examples, vectors = stored_examples(artifact)
    return [_named(pair, examples) for pair in overlaps(vectors, examples.labels, worst=worst)]


def _named(pair: Overlap, examples: Examples) -> NamedOverlap:
    names, texts = examples.categories, examples.texts
    worst = tuple(NamedStray(texts[s.row], s.own, texts[s.rival], s.other) for s in pair.worst)
    return NamedOverlap(names[pair.category], names[pair.other], pair.share, pair.count, worst)
