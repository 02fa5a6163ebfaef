"""An encoder tuned on a part of the rows, so that the rest can judge it.

To leave rows out in turn, as for the other heads, would tune it once more for each part; a fifth of the rows is enough
to weigh it against them, and what was judged is what serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay.duplicates import duplicates
from semroute.evaluate.replay.folds import k_folds
from semroute.heads.queries.head import Quality
from semroute.heads.queries.tuned import TunedHead
from semroute.learn.queries.finetuning import FineTuning, fine_tune
from semroute.learn.queries.rows import TrainingRows
from semroute.types.progress import StepProgress

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PARTS = 5
"""One of so many parts of the rows is left out."""


@dataclass(frozen=True, slots=True)
class TunedPart:
    """A tuned encoder, and the rows that it has not seen.

    Attributes:
        head: as it serves.
        judged: ``(k,)`` numbers of the rows that were left out.
        predicted: ``(k, m)`` what the head says of them.
    """

    head: TunedHead
    judged: NDArray[np.int64]
    predicted: Quality


def tune_part(
    backbone: str | Path | SentenceTransformer,
    rows: TrainingRows,
    folder: Path,
    plan: FineTuning | None = None,
    progress: StepProgress = lambda done, total: None,
) -> TunedPart:
    """Tune on four fifths of the rows; what says the same as a left-out row is left out too.

    Args:
        backbone: a sentence-transformers model, its name or folder.
        rows: all of them.
        folder: for the files of the head, which must stay there as long as it is used.
        plan: the settings.
        progress: called after each step with the steps done and their total.

    Raises:
        EncoderError: no such backbone, or one that cannot be exported faithfully.
        InputError: too few different queries.
        MissingExtraError: the extra "torch" is not installed.
    """
    plan = plan or FineTuning()
    part = k_folds(duplicates(rows.queries, rows.inputs.vectors).group, PARTS, seed=plan.seed)[0]
    seen = [rows.queries[row] for row in part.train.tolist()]
    head = fine_tune(backbone, seen, rows.quality[part.train], folder, plan, progress)
    return TunedPart(head, part.test, head.predict(rows.inputs.take(part.test)))
