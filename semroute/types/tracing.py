"""Tracing protocol: decisions and attempts, without content or keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeAlias

from semroute.types.chat import Completion
from semroute.types.decision import Attempt, Decision

current_tier: ContextVar[int | None] = ContextVar("semroute_tier", default=None)
"""Position from 0 of the cascade's tier that is running; None outside of a cascade. Its samples and judges count."""

upstream_headers: ContextVar[Mapping[str, str]] = ContextVar("semroute_upstream_headers", default=MappingProxyType({}))
"""Headers by which the provider of the attempt under way may continue its trace; empty unless it is to."""


@dataclass(frozen=True, slots=True)
class AttemptStart:
    """Description of an attempt that begins.

    Attributes:
        deployment: its name.
        model: the logical model.
        upstream_model: the provider's own name for the model.
        provider: name of the vendor's row, else of the wire format.
        address: base URL of the deployment.
        streaming: whether the answer is streamed.
        max_tokens: longest answer that the request allows; None where it does not say.
        temperature: of the request; None where it does not say.
        hedge: whether it is a hedged request.
        retry: whether it retries the attempt before at the same deployment.
        tier: see :data:`current_tier`.
    """

    deployment: str
    model: str
    upstream_model: str
    provider: str
    address: str
    streaming: bool
    max_tokens: int | None = None
    temperature: float | None = None
    hedge: bool = False
    retry: bool = False
    tier: int | None = None


NoteDecision: TypeAlias = Callable[[Decision], None]
"""Callback for the decision that was made; it is not called where there was an error."""
NoteAttempt: TypeAlias = Callable[[Attempt | None, Completion | None], None]
"""Callback for the accounting of an attempt, and its answer where it has one."""


UNTRACED: nullcontext[NoteDecision] = nullcontext(lambda decision: None)
"""Block of a decision that nobody traces."""


class Tracer(Protocol):
    """Tracer of decisions and attempts.

    Its methods never wait and never raise.
    """

    def decision(self) -> AbstractContextManager[NoteDecision]:
        """Trace a decision, from its beginning to the end of the block."""
        ...

    def attempt(self, start: AttemptStart) -> AbstractContextManager[NoteAttempt]:
        """Trace an attempt, from its beginning to the end of the block.

        That of a stream ends with its last piece.
        """
        ...
