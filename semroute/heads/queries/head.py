"""What a head is: predicts every model's quality from the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from semroute.heads.queries.inputs import QueryInputs

Quality = NDArray[np.float64]
"""``(n, m)`` float64; a prediction may leave 0..1 by a little."""

Arrays = Mapping[str, NDArray[Any]]


class QueryHead(Protocol):
    """A trained head, as it serves.

    Attributes:
        kind: its name in an artifact.
        needs_vectors: whether it looks at vectors and features; else at the texts alone.
    """

    kind: ClassVar[str]
    needs_vectors: ClassVar[bool]

    def predict(self, inputs: QueryInputs) -> Quality:
        """``(n, m)`` predicted quality."""
        ...

    def arrays(self) -> Arrays:
        """The arrays that it is made of, by name."""
        ...


class ArrayHead(QueryHead, Protocol):
    """A head that is made of arrays alone."""

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The head that :meth:`arrays` was called on.

        Raises:
            KeyError, ValueError: they are not the arrays of such a head.
        """
        ...
