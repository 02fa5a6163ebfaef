"""Callers of the gateway: authentication by virtual keys, and limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from semroute.catalog import estimate_tokens
from semroute.encoders.cache import CACHE_OWNER
from semroute.errors import ContextLengthError, DispatchError, SemrouteError
from semroute.router import Router
from semroute.router.requested import constraints_of, plain_name
from semroute.server.affinity import SessionTurn
from semroute.server.formats import ServedCall
from semroute.server.keys import USUAL_RIGHTS, KeyRing, Right, VirtualKey
from semroute.types import Completion, Decision, Delta, Request, total_cost
from semroute.types.gates import CallResult, Rejection

KEY_ID = "key_id"
"""Metadata of an outcome by which its caller is known; a name may be given again when its key is revoked."""
LEAST_USD = 1e-9
"""Reservation of a call, whose cost is not known yet: a budget that is used up rejects it."""

REROUTING = frozenset(
    {
        "api_base", "base_url", "content_policy_fallbacks", "context_window_fallbacks", "fallbacks", "models", "preset",
        "user_config",
    }
)  # fmt: skip
"""Fields by which a body lets a gateway upstream (OpenRouter, LiteLLM) call another model or address; see
https://openrouter.ai/docs/features/model-routing and https://docs.litellm.ai/docs/proxy/reliability."""


class UnknownCallerError(SemrouteError):
    """Request without a key, or with one that is unknown, disabled or revoked."""


class ForbiddenError(SemrouteError):
    """Request for a model or a right that its key does not have."""


class CallerLimitError(SemrouteError):
    """Request beyond its key's limits or budget.

    Attributes:
        wait_s: seconds until a retry may be useful; None when no waiting helps.
    """

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        self.wait_s = wait_s
        super().__init__(message)


class Callers:
    """Callers of one router.

    Args:
        router: makes the calls; its admission control counts those of each key, in Redis where the configuration
            keeps its state there: in one wait with what that knows of the conversation.
        keys: the virtual keys; without any, everybody may call.
    """

    def __init__(self, router: Router, keys: KeyRing) -> None:
        self._router = router
        self._keys = keys

    def caller(self, headers: Mapping[str, str]) -> VirtualKey | None:
        """Return the key of a request; None where no keys are used.

        Raises:
            UnknownCallerError: keys are used, and this request has none of them.
        """
        if self._keys.is_empty:
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else None)
        key = self._keys.find(given)
        if key is None:
            raise UnknownCallerError(
                "the key is missing, unknown, disabled or revoked: send one of semroute keys create"
            )
        CACHE_OWNER.set(key.id)
        return key

    async def complete(self, call: ServedCall, key: VirtualKey | None, turn: SessionTurn) -> Completion:
        """Answer a turn of a conversation within its key's limits.

        A request that proves too long for the models that were chosen goes to larger ones.

        Raises:
            ForbiddenError, CallerLimitError: the key does not allow it.
            SemrouteError: as :meth:`Router.acomplete`.
        """
        async with self._admitted(call, key, turn) as (admitted, bill):
            await turn.begin()
            while True:
                try:
                    completion = await self._router.acomplete(
                        admitted.request,
                        constraints=turn.limits,
                        revise=turn.revise,
                        input_tokens=turn.input_tokens,
                    )
                    break
                except DispatchError as error:
                    _pass_on(error, turn, bill)
            bill.take(completion)
            turn.note(completion)
            return completion

    async def stream(
        self,
        call: ServedCall,
        key: VirtualKey | None,
        turn: SessionTurn,
        on_decision: Callable[[Decision], None] | None = None,
    ) -> AsyncGenerator[Delta | Completion]:
        """Stream the answer to a turn within its key's limits.

        All else is as in :meth:`complete`.
        """
        async with self._admitted(call, key, turn) as (admitted, bill):
            await turn.begin()
            has_begun = is_complete = False
            while not is_complete:
                source = self._router.astream(
                    admitted.request,
                    constraints=turn.limits,
                    on_decision=on_decision,
                    revise=turn.revise,
                    input_tokens=turn.input_tokens,
                )
                try:
                    async with aclosing(source) as events:
                        async for event in events:
                            if isinstance(event, Completion):
                                bill.take(event)
                                turn.note(event)
                                is_complete = True
                            has_begun = True
                            yield event
                except DispatchError as error:
                    if has_begun:
                        raise
                    _pass_on(error, turn, bill)

    async def route(self, call: ServedCall, key: VirtualKey | None) -> Decision:
        """Decide a request within its key's limits, without an answer.

        Raises:
            ForbiddenError, CallerLimitError: the key does not allow it.
            SemrouteError: as :meth:`Router.aroute`.
        """
        async with self._admitted(call, key) as (admitted, bill):
            limits = constraints_of(admitted.model, self._router.config, self._router.live.models)
            decision = await self._router.aroute(admitted.request, constraints=limits)
            bill.decide(decision)
            return decision

    async def judge(self, outcome_id: str, quality: float, comment: str | None, key: VirtualKey | None) -> str:
        """Store feedback on an answer.

        A key can name its own answers alone.

        Raises:
            InputError, StateError: as :meth:`Router.afeedback`.
        """
        owner = None if key is None else (KEY_ID, key.id)
        return await self._router.afeedback(outcome_id, quality, comment, owner=owner)

    @asynccontextmanager
    async def _admitted(
        self, call: ServedCall, key: VirtualKey | None, turn: SessionTurn | None = None
    ) -> AsyncIterator[tuple[ServedCall, _CallCharge]]:
        """Admit a call within its key's limits, and charge it.

        What Redis knows of its conversation is asked for at the same time, and taken over by ``turn.begin`` alone.
        """
        bill = _CallCharge()
        request = call.request if key is None else _allowed(call, key)
        if turn is not None:
            turn.ask()
        if key is None:
            yield call, bill
            return
        gates = self._router.dispatcher.gates
        input_tokens = estimate_tokens(request) if turn is None else turn.input_tokens
        tokens = input_tokens + (request.max_tokens or 0)
        permit = await gates.acquire(key.endpoint, tokens, LEAST_USD)
        if isinstance(permit, Rejection):
            raise CallerLimitError(f"the key {key.name!r}: {permit.reason}", permit.wait_s)
        try:
            yield replace(call, request=request), bill
        except DispatchError as error:
            bill.fail(error)
            raise
        finally:
            # The caller's own failures close nothing: an endpoint's breaker is for providers.
            await gates.release(permit, CallResult.NEUTRAL, tokens=bill.tokens, usd=bill.usd)


def _allowed(call: ServedCall, key: VirtualKey) -> Request:
    """Return the request of a call with its key's metadata.

    Raises:
        ForbiddenError: the key does not allow it.
    """
    if not key.allows(call.model) and not key.allows(plain_name(call.model)):
        raise ForbiddenError(f"the key {key.name!r} may not use {call.model!r}; it may use {', '.join(key.models)}")
    native = call.request.native
    if key.models and native is not None and (named := sorted(REROUTING & native.body.keys())):
        raise ForbiddenError(f"the key {key.name!r} is for certain models; leave out {', '.join(named)}")
    return replace(call.request, metadata={**key.metadata, "key": key.name, KEY_ID: key.id})


def _pass_on(error: DispatchError, turn: SessionTurn, bill: _CallCharge) -> None:
    """Return if larger models may be tried; otherwise raise the error.

    A request that is too long has its token counts in the error.

    Raises:
        DispatchError: nobody could answer.
    """
    if not isinstance(error, ContextLengthError) or not turn.outgrows(error):
        raise turn.explained(error) from None
    bill.retry(error)


class _CallCharge:
    """Tokens and USD of a call so far; None keeps what was reserved."""

    def __init__(self) -> None:
        self.tokens: int | None = None
        self._before_usd = 0.0
        self.usd: float | None = None

    def take(self, completion: Completion) -> None:
        """Take the counts of a complete answer."""
        cost, usage = completion.total_cost, completion.usage
        self.usd = None if cost is None else cost.usd + self._before_usd
        self.tokens = None if usage is None else usage.input_tokens + usage.output_tokens

    def decide(self, decision: Decision) -> None:
        """Take the counts of a decision: those of models asked to decide."""
        cost, counted = decision.cost, [one.usage for one in decision.attempts if one.usage is not None]
        self.usd = 0.0 if cost is None else cost.usd
        self.tokens = sum(usage.input_tokens + usage.output_tokens for usage in counted)

    def fail(self, error: DispatchError) -> None:
        """Take the cost of the attempts before an error."""
        cost = total_cost(error.attempts)
        self.usd = self._before_usd + (0.0 if cost is None else cost.usd)

    def retry(self, error: DispatchError) -> None:
        """Take the cost of the attempts before another try."""
        self.fail(error)
        self._before_usd = self.usd or 0.0


def check_right(key: VirtualKey | None, right: Right) -> None:
    """Refuse a caller without a right.

    Where no keys are used, everybody on this machine may do what needs no right of its own (:data:`USUAL_RIGHTS`).

    Raises:
        ForbiddenError: the message names the right.
    """
    make = f"semroute keys create NAME --right {right} makes one that has it"
    if key is None and right not in USUAL_RIGHTS:
        raise ForbiddenError(f"this needs a key with the right {right!r}, and no keys are used here: {make}")
    if key is not None and right not in key.rights:
        raise ForbiddenError(f"the key {key.name!r} has not the right {right!r}: {make}")
