"""Experiment with a routing policy: its traffic share and its results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from semroute.config import Config
from semroute.config.schema import ExperimentConfig
from semroute.errors import InputError
from semroute.evaluate.experiment_report import ComparisonCard, TrialReport, trial_report
from semroute.outcomes.log import OutcomeLog
from semroute.router.experiment import read_share, trial_fingerprint, tried_config
from semroute.storage import atomic_write
from semroute.workflows.workspace import Workspace

_NO_POLICY = "no policy is on trial; name one in semroute.yaml: trial: {policy: FILE}"


@dataclass(frozen=True, slots=True)
class ExperimentStatus:
    """Traffic share of a policy under test, and its results.

    Attributes:
        policy: file of the policy.
        share: share of the queries that it decides now, 0 to 1.
        report: results of both policies by share.
        compared: blind comparisons of their answers.
        max_usd: budget of these; None where none are made.
    """

    policy: Path
    share: float
    report: TrialReport
    compared: ComparisonCard
    max_usd: float | None

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        compared = {**self.compared.to_dict(), "max_usd": self.max_usd}
        return {"policy": str(self.policy), "share": self.share, **self.report.to_dict(), "compared": compared}


def set_share(workspace: Workspace, share: float) -> Path:
    """Set the traffic share of the policy under test; return its file.

    Running routers adopt it within a second.

    Args:
        workspace: configuration with the section ``trial``.
        share: 0 to 1.

    Raises:
        InputError: no policy is under test, the share is out of range, or the state cannot be written.
    """
    return write_share(workspace.config.trial, share)


def write_share(section: ExperimentConfig, share: float) -> Path:
    """Set the traffic share in the section ``trial``; see :func:`set_share`."""
    if section.policy is None:
        raise InputError(_NO_POLICY)
    if not 0.0 <= share <= 1.0:
        raise InputError(f"{share:g} is no share; give a number from 0 to 1")
    try:
        section.state.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(section.state) as part:
            part.write_text(json.dumps({"share": share}) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{section.state}: cannot be written ({error.strerror or error})") from error
    return section.policy


def comparison_card(config: Config, log: OutcomeLog) -> ComparisonCard | None:
    """Return the card of a trial's blind comparisons; None without any.

    Raises:
        ConfigError: the policy's file cannot be used.
        StateError: the log cannot be read.
    """
    tried = tried_config(config)
    if tried is None or config.trial.judge is None:
        return None
    return ComparisonCard.of(log.comparisons(trial_fingerprint(config, tried)))


def experiment_status(
    workspace: Workspace, *, since: datetime | None = None, log_url: str | None = None
) -> ExperimentStatus:
    """Return the share, and from the log the results of both policies.

    Args:
        workspace: configuration with the section ``trial``.
        since: beginning; None takes all.
        log_url: address of the log; None takes the configured one.

    Raises:
        InputError: no policy is under test, or its state cannot be read.
        StateError: there is no log, or it cannot be opened.
    """
    config = workspace.config
    section, tried = config.trial, tried_config(config)
    if tried is None or section.policy is None:
        raise InputError(_NO_POLICY)
    try:
        share = read_share(section.state, section.share)
    except (OSError, ValueError) as error:
        raise InputError(f"{section.state}: cannot be read ({error}); run: semroute trial share 0") from error
    with workspace.open_log(log_url) as opened:
        pair = trial_fingerprint(config, tried)
        made = trial_report(opened.outcomes(since), pair)
        card = ComparisonCard.of(opened.comparisons(pair, since))
    return ExperimentStatus(section.policy, share, made, card, section.max_usd)
