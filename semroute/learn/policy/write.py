"""Write a tuned policy: ``policy.yaml``, its classifiers and a report.

``policy.yaml`` is a fragment of ``semroute.yaml``. The classifiers are in a folder of their own, named by their
training data, and ``policy.yaml`` is written last: an earlier policy keeps its own until then, and a ``semroute.yaml``
that includes it keeps them after.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from semroute.errors import InputError
from semroute.learn.policy.prepare import PolicySplit
from semroute.learn.policy.search import Point
from semroute.outcomes.table import OutcomeTable
from semroute.predictors.answer_quality import write_classifier
from semroute.predictors.query_quality import write_query_classifier
from semroute.storage import atomic_write, check_folder, exclusive_folder
from semroute.text.normalise import digest_of

POLICY, REPORT = "policy.yaml", "policy.json"
_GENERATION = re.compile(r"[0-9a-f]{12}")


def generation(table: OutcomeTable, settings: Iterable[object]) -> str:
    """Return the name of the folder of classifiers, 12 hex digits.

    It identifies the outcomes and settings that they are trained on.
    """
    texts = (*map(str, settings), *table.models, *table.queries, *table.tasks)
    return digest_of(texts, table.quality.tobytes(), table.cost.tobytes())[:12]


def write_policy(
    point: Point, prepared: PolicySplit, folder: Path, generation_name: str, *, head: str, report: Mapping[str, Any]
) -> None:
    """Write a policy and its classifiers, replacing an earlier policy last.

    Args:
        point: the policy.
        prepared: holds the classifiers.
        folder: created where it is missing.
        generation_name: its :func:`generation`, which the families of policies were given.
        head: description of the policy for display; a line or several.
        report: the tuning report; JSON-ready.

    Raises:
        InputError: the folder cannot be written, or holds something else.
    """
    text = "".join(f"# {line}\n" for line in head.splitlines())
    text += yaml.safe_dump(dict(point.family.config(point.parameter)), sort_keys=False, allow_unicode=True)
    try:
        with exclusive_folder(folder, REPORT, _is_policy_file):
            if point.family.asks_classifier:
                write_query_classifier(prepared.classifier, folder / generation_name / "classifier", report={})
            for number in point.family.checks(point.parameter):
                write_classifier(prepared.checks[number], folder / generation_name / f"checks-{number}", report={})
            with atomic_write(folder / POLICY) as policy, atomic_write(folder / REPORT) as report_part:
                policy.write_text(text, encoding="utf-8")
                report_part.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: the policy cannot be written ({error.strerror or error})") from error


def check_policy_folder(folder: Path) -> None:
    """Refuse an unusable folder before anything is tuned.

    Raises:
        InputError: it holds something else, or cannot be written.
    """
    check_folder(folder, REPORT, _is_policy_file)


def _is_policy_file(name: str) -> bool:
    return name == POLICY or _GENERATION.fullmatch(name) is not None


def earlier(folder: Path, current: str) -> list[Path]:
    """Return the classifier folders of earlier policies.

    They stay, for a ``semroute.yaml`` may name them still.
    """
    return sorted(path for path in folder.iterdir() if _GENERATION.fullmatch(path.name) and path.name != current)
