"""Categories of six hundred examples, and an encoder that makes an index of them in a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from semroute.encoders.remote import RemoteEncoder
from semroute.learn.build import EncoderChoice
from semroute.testing import FakeProvider
from semroute.types import Matrix

CATEGORIES = ("code", "cooking", "law")
EACH = 200


def texts_of(category: str, count: int, seed: int = 0) -> list[str]:
    """Texts of six words: most of them of the category, some of all."""
    random = np.random.default_rng([seed, CATEGORIES.index(category)])
    # Letters, since numbers would make a template of them.
    ends = [a + b for a in "aeiou" for b in "lmnrst"]
    words = np.array([category + end for end in ends] + ["word" + end for end in ends])
    shares = np.repeat([0.7 / 30, 0.3 / 30], 30)
    return [" ".join(random.choice(words, 6, replace=False, p=shares)) for _ in range(count)]


def write_categories(folder: Path) -> Path:
    folder.mkdir()
    for category in CATEGORIES:
        (folder / f"{category}.txt").write_text("".join(f"{text}\n" for text in texts_of(category, EACH)))
    return folder


@contextmanager
def remote() -> Iterator[EncoderChoice]:
    """A provider's embeddings, in which texts that share words lie near to each other."""
    with pytest.MonkeyPatch.context() as patch, FakeProvider(dimensions=64) as provider:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield EncoderChoice("remote", "embedder", base_url=provider.base_url)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is embedded from here on."""
    seen: list[str] = []
    encode = RemoteEncoder.encode

    def counting(self: RemoteEncoder, texts: Sequence[str]) -> Matrix:
        seen.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(RemoteEncoder, "encode", counting)
    return seen
