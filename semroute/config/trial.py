"""A new policy beside the one that serves. A section of ``semroute.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from semroute.config.sections import Number, Section
from semroute.config.values import file, optional_file


class ExperimentConfig(Section):
    """A policy on trial: it decides on every query too, and a share of the queries goes where it says.

    Attributes:
        policy: a file with sections that go over those of this file, such as the ``policy.yaml`` of ``semroute
            tune-policy``; None tries nothing.
        share: of the queries that it decides, 0 to 1; for the others it is only noted what it would have done.
        state: file in which ``semroute trial share`` leaves another share for routers that run; it goes over ``share``.
    """

    policy: Annotated[Path | None, BeforeValidator(optional_file)] = None
    share: Annotated[Number, Field(ge=0, le=1)] = 0.0
    state: Annotated[Path, BeforeValidator(file)] = Path(".semroute/trial.json")
