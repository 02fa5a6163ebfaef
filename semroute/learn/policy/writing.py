"""A tuned policy as a folder: ``policy.yaml`` to put into ``semroute.yaml``, what it names, and how it was tuned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from semroute.errors import InputError
from semroute.heads.answers import write_classifier
from semroute.heads.queries import write_query_classifier
from semroute.learn.policy.preparing import Prepared
from semroute.learn.policy.search import Point
from semroute.whole import own_folder, whole_file

POLICY, REPORT = "policy.yaml", "policy.json"


def write_policy(point: Point, prepared: Prepared, folder: Path, *, head: str, report: Mapping[str, Any]) -> None:
    """Write a policy and the classifiers that it asks; a policy that is there already is replaced.

    Args:
        point: the policy.
        prepared: holds the classifiers.
        folder: made where it is missing.
        head: what the policy is, for people; a line or several.
        report: how it was tuned; JSON-ready.

    Raises:
        InputError: the folder cannot be written, or holds something else.
    """
    try:
        own_folder(folder, REPORT)
        if point.family.asks_classifier:
            write_query_classifier(prepared.classifier, folder / "classifier", report={})
        for number in point.family.checks(point.parameter):
            write_classifier(prepared.checks[number], folder / f"checks-{number}", report={})
        text = "".join(f"# {line}\n" for line in head.splitlines())
        text += yaml.safe_dump(dict(point.family.config(point.parameter)), sort_keys=False, allow_unicode=True)
        with whole_file(folder / REPORT) as part:
            part.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        with whole_file(folder / POLICY) as part:
            part.write_text(text, encoding="utf-8")
        _remove_others(folder, text)
    except OSError as error:
        raise InputError(f"{folder}: the policy cannot be written ({error.strerror or error})") from error


def _remove_others(folder: Path, text: str) -> None:
    """Classifiers of a policy that was there before."""
    for own in (folder / "classifier", *folder.glob("checks-*")):
        if own.is_dir() and own.name not in text:
            shutil.rmtree(own)
