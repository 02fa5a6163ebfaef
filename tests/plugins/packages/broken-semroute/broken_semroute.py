"""Plugins that are none."""

from __future__ import annotations

from typing import Any

import numpy as np

NUMBER = 7


class Shapeless:
    """Nothing that semroute asks for."""

    def __init__(self, *_: Any) -> None: ...


class Misnamed:
    """A strategy with the name of another."""

    name, needs_vectors = "other", False

    def __init__(self, *_: Any) -> None: ...

    def decide(self, cases: Any) -> list[Any]:
        return []


class Optioned(Misnamed):
    """A strategy whose options are no model."""

    Options = 3


class Long:
    """An encoder whose vectors are too long."""

    name = fingerprint = "long"
    dimensions = 4

    def __init__(self, argument: str) -> None: ...

    def encode(self, texts: Any) -> Any:
        return np.ones((len(texts), 4), np.float32)


def raising(options: object) -> object:
    raise RuntimeError("the moon is\nin the way")
