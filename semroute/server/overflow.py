"""Context overflow: requests too long for every model, and counts.

Clients look for the counts.

Agents shorten their conversation, or ask for a shorter answer, when they read their vendor's sentence; each format has
its own (:meth:`semroute.server.formats.ServerFormat.overflow`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from semroute.catalog import Needs, fits, model_card
from semroute.config import Config, Deployment
from semroute.errors import CapabilityError, ContextLengthError, DispatchError, NoDeploymentError

_COUNTS = (
    re.compile(r"(?P<input>\d+) tokens > (?P<most>\d+) maximum"),  # Anthropic
    re.compile(r"maximum context length is (?P<most>\d+) tokens\D+?(?P<input>\d+) tokens"),  # OpenAI, vLLM
    re.compile(r"token count \((?P<input>\d+)\) exceeds the maximum number of tokens allowed \((?P<most>\d+)\)"),
)
"""Counts in the providers' own sentences."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """Counts of a request that is too long.

    Attributes:
        input_tokens: its input, estimated unless the provider counted it.
        output_tokens: the longest answer that it asks for; 0 where it sets none.
        maximum: the largest context window; None where it is not known.
        longest_answer: the longest answer of a model that the input fits, where that alone is exceeded; else None.
    """

    input_tokens: int
    output_tokens: int
    maximum: int | None
    longest_answer: int | None = None

    @property
    def is_by_answer(self) -> bool:
        """True if the input alone would fit."""
        return self.maximum is not None and self.input_tokens <= self.maximum and self.output_tokens > 0


class OutputLimitError(CapabilityError):
    """Request for a longer answer than any model that may answer it gives.

    Attributes:
        overflow: its counts.
    """

    overflow: Overflow | None = None


class ContextOverflowError(ContextLengthError):
    """Request that is too long for every model that may answer it.

    Attributes:
        overflow: its counts; None where they are not known.
    """

    overflow: Overflow | None = None


def overflow_error(error: DispatchError, overflow: Overflow) -> OutputLimitError | ContextOverflowError:
    """Return the error of a call that failed for its length.

    That is the request's, or its answer's.
    """
    kind = ContextOverflowError if overflow.longest_answer is None else OutputLimitError
    found = kind(str(error), deployment=error.deployment, status=error.status)
    found.attempts, found.overflow = error.attempts, overflow
    return found


def overflow_of(error: DispatchError, config: Config, needs: Needs, names: Sequence[str]) -> Overflow | None:
    """Return the counts if a call failed since the request is too long.

    None if it failed for another reason.

    Args:
        error: the failure, before or after a provider was asked.
        config: models and deployments.
        needs: what the request needs.
        names: models and groups that might have answered.
    """
    output_tokens = needs.max_output_tokens if needs.output_is_set else 0
    counted = Overflow(needs.input_tokens, output_tokens, None)
    if isinstance(error, ContextLengthError):
        for pattern in _COUNTS:
            if found := pattern.search(str(error)):
                return replace(counted, input_tokens=int(found["input"]), maximum=int(found["most"]))
        windows = [window for name in names for window in _windows(config.deployments_of(name), config)]
        most = max(windows, default=None)
        # A window that the estimate fits is no explanation: the provider counts otherwise.
        return replace(counted, maximum=most if most is not None and most < needs.least_context else None)
    if error.attempts or not isinstance(error, CapabilityError | NoDeploymentError):
        return None
    short = [one for name in names for one in config.deployments_of(name) if is_too_short(one, config, needs)]
    if limits := [limit for one in short if (limit := _exceeded_answer(one, config, needs)) is not None]:
        return replace(counted, longest_answer=max(limits))
    windows = list(_windows(short, config))
    return replace(counted, maximum=max(windows)) if windows else None


def is_too_short(deployment: Deployment, config: Config, needs: Needs) -> bool:
    """Return True if only a deployment's context or output is too short."""
    if not fits(deployment, config, needs):
        return False
    return not fits(deployment, config, replace(needs, input_tokens=0, max_output_tokens=1))


def _exceeded_answer(deployment: Deployment, config: Config, needs: Needs) -> int | None:
    """Return a deployment's longest answer, if that alone was exceeded."""
    limit = model_card(deployment.model, config).max_output
    if limit is None or fits(deployment, config, replace(needs, max_output_tokens=min(limit, needs.max_output_tokens))):
        return None
    return limit


def _windows(deployments: Sequence[Deployment], config: Config) -> Iterator[int]:
    for deployment in deployments:
        if (window := model_card(deployment.model, config).context) is not None:
            yield window
