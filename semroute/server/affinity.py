"""Affinity of a conversation to its model, while that pays.

The decision of the router stands, except that

- the results of tool calls go back to the model that made the calls;
- the conversation's model is asked first where staying costs no more than switching, the cache that a switch loses
  included, and where that model may answer: it is one of the decision's, or no cheaper than its first;
- housekeeping of an agent goes to the cheapest model that fits;
- models that a request is too long for make room for one that it fits.

The decision's models follow in their order, so that a model that is down is no longer stayed with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

from semroute.catalog import Needs, charge, estimate_tokens, fits, model_card, needs_of, price_level, price_of
from semroute.config import Config, Deployment, Price
from semroute.dispatch.constraints import Constraints
from semroute.dispatch.plan import USUAL_ANSWER
from semroute.errors import ContextLengthError, DispatchError
from semroute.router.complete import CHOSEN
from semroute.router.requested import STALL, escalated, revised
from semroute.server.housekeeping import housekeeping_of
from semroute.server.overflow import is_too_short, overflow_error, overflow_of
from semroute.server.sessions import Session, SessionReading, Sessions, role_of
from semroute.types import Completion, Decision, Request, Usage

SESSION, HOUSEKEEPING = "session", "housekeeping"
"""Strategy names of decisions that are revised here."""

Move: TypeAlias = Literal["stays", "switches", "new"]


def turn_cost(price: Price, input_tokens: int, output_tokens: int, cached: int = 0, written: int = 0) -> float:
    """Return the expected cost of a turn, USD.

    Args:
        price: USD per million tokens.
        input_tokens: the whole input.
        output_tokens: the expected answer.
        cached: input that the deployment has in its cache.
        written: input that it will write to its cache, since another deployment has it cached.
    """
    read = min(cached, input_tokens)
    usage = Usage(input_tokens, output_tokens, read, min(max(written - read, 0), input_tokens - read))
    return charge(price, usage)


@dataclass(frozen=True, slots=True)
class SwitchComparison:
    """Expected costs of the next ask, USD, staying and switching.

    They include the tool calls that it is likely to take; None without a price.

    One ask alone would never pay for a cache that serves the turns after it. So what staying has cost so far, against
    the other model with the prefix in its cache, counts as well: when it exceeds the price of filling that cache, the
    conversation switches. That is the break-even rule of ski rental, which costs at most twice as much as knowing the
    rest of the conversation (A. R. Karlin et al., "Competitive snoopy caching", Algorithmica 3, 1988).

    Attributes:
        stay: at the conversation's model, with what it has cached.
        switch: at the other model, with what that has cached.
        forgone: what staying has cost more in the turns before, for want of that cache.
    """

    stay: float | None
    switch: float | None
    forgone: float = 0.0

    @property
    def stays(self) -> bool:
        """True unless switching is known to cost less.

        Its losses are known, its gains are not.
        """
        return self.stay is None or self.switch is None or self.switch >= self.stay + self.forgone

    def __str__(self) -> str:
        forgone = f" and {_usd(self.forgone)} forgone" if self.forgone > 0 else ""
        costs = f"stay {_usd(self.stay)}{forgone}, switch {_usd(self.switch)}"
        return f"{costs}: {'stays' if self.stays else 'switches'}"


def _usd(value: float | None) -> str:
    return "of unknown price" if value is None else f"{value:.4f}" if value >= 0.001 else f"{value:.7f}"


class SessionTurn:
    """One turn of a conversation, from its decision to its answer.

    Args:
        config: models, prices and deployments.
        sessions: the conversations.
        caller: id of the virtual key; None where there are no keys.
        name: identity of the conversation.
        request: what is asked.
        limits: the request's limits; one that pins a model keeps its decision.

    Attributes:
        move: whether the conversation stays with its model; None for housekeeping and where the caller pins a model.
    """

    def __init__(
        self,
        config: Config,
        sessions: Sessions,
        caller: str | None,
        name: bytes,
        request: Request,
        limits: Constraints,
    ) -> None:
        self._config, self._sessions = config, sessions
        self._caller, self._name, self._request, self._limits = caller, name, request, limits
        self._session = self._sessions.find(caller, name)
        self._task = None if self._is_pinned else housekeeping_of(request)
        self._decision: Decision | None = None
        self._larger: tuple[str, ...] = ()
        self._stayed: tuple[str, float] | None = None
        self._reading: SessionReading | None = None
        self.move: Move | None = None

    def ask(self) -> None:
        """Ask other processes for the conversation, during admission."""
        self._reading = self._sessions.begin_read(self._caller, self._name, self._request)

    async def begin(self) -> None:
        """Take over other processes' conversation, after admission."""
        await self._sessions.take(self._caller, self._name, self._reading)
        self._session = self._sessions.find(self._caller, self._name)

    @cached_property
    def input_tokens(self) -> int:
        """Estimated tokens of the request, counted once."""
        return estimate_tokens(self._request)

    @property
    def limits(self) -> Constraints:
        """Limits of the call; the deployment with the cached prefix is first.

        It is preferred among those of its model.
        """
        session = self._session
        if session is None or self._limits.deployment is not None or self._task is not None:
            return self._limits
        owner = session.owns(self._request)
        return replace(self._limits, prefer=session.deployment if owner is None else owner[1])

    def revise(self, decision: Decision) -> Decision:
        """Return the decision that is to be answered."""
        if self._larger:
            reason = f"too long for the models that were asked: {self._larger[0]} takes more"
            decision = revised(decision, self._larger, SESSION, reason)
        elif not self._is_pinned:
            decision = self._fitting(self._revised(decision))
        self._decision = decision
        return decision

    def note(self, completion: Completion) -> None:
        """Note the answer; housekeeping is no part of the conversation."""
        if self._task is None:
            session = self._sessions.start(self._caller, self._name)
            session.note(completion, self.input_tokens, self._sessions.clock(), moves=self._moves(completion))
            if self._stayed is not None:
                session.forgo(*self._stayed)
            self._sessions.share(self._caller, self._name, session)

    def outgrows(self, error: ContextLengthError) -> bool:
        """Turn to larger models after the request proved too long.

        False if there is none.

        Nothing of the answer may have been sent yet. It turns once.
        """
        decision, asked = self._decision, {attempt.model for attempt in error.attempts}
        if self._is_pinned or self._larger or decision is None or not asked or _bounds(decision) is not None:
            return False
        windows = [window for model in asked if (window := model_card(model, self._config).context) is not None]
        largest = max(windows, default=self._needs.least_context - 1)
        self._larger = tuple(
            model for model in self._fitting_models(asked) if (model_card(model, self._config).context or 0) > largest
        )
        return bool(self._larger)

    def explained(self, error: DispatchError) -> DispatchError:
        """Return an error with token counts, if the request is too long.

        Otherwise it is the same error.
        """
        overflow = overflow_of(error, self._config, self._needs, self._possible())
        return error if overflow is None else overflow_error(error, overflow)

    def _possible(self) -> Sequence[str]:
        """Return the models that might have answered."""
        if self._limits.model is not None:
            return (self._limits.model,)
        allowed = None if self._decision is None else _bounds(self._decision)
        return tuple({one.model: None for one in self._config.deployments}) if allowed is None else allowed

    @cached_property
    def _needs(self) -> Needs:
        return needs_of(self._request, input_tokens=self.input_tokens)

    @property
    def _is_pinned(self) -> bool:
        return self._limits.is_pinned

    def _moves(self, completion: Completion) -> bool:
        """Return False where the model only stood in for another one."""
        decision = self._decision
        if decision is None or decision.cascade or not decision.candidates:
            return True
        return completion.model in self._config.members(decision.candidates[0])

    def _revised(self, decision: Decision) -> Decision:
        if self._task is not None:
            return self._kept_cheap(decision, self._task)
        session = self._session
        if session is None or session.model is None:
            self.move = "new"
            return decision
        if decision.strategy == STALL:
            return self._unstalled(decision, session.model)
        owner = session.owns(self._request)
        if owner is not None and self._fits(owner[0]) and self._is_left(owner[0], decision):
            self.move = "stays"
            if owner[0] == session.model:
                self._forgo(session.model, first_of(decision))
            reason = f"the result of a tool call goes back to {owner[0]}, which made the call"
            return self._with_first(decision, owner[0], SESSION, reason)
        first = first_of(decision)
        if session.model in self._config.members(first):
            self.move = "stays"
            # A group's endpoints are sampled: named by itself, the model stays the same.
            if first == session.model:
                return decision
            return self._with_first(decision, session.model, SESSION, f"the conversation's model, of the group {first}")
        if self._limits.preference == "best" or not self._may_answer(session.model, decision):
            self.move = "switches"
            return decision
        comparison = SwitchComparison(
            self._ask_cost(session.model), self._ask_cost(first), session.forgone.get(first, 0.0)
        )
        self.move = "stays" if comparison.stays else "switches"
        reason = f"{comparison} with {session.model if comparison.stays else first}"
        if comparison.stays:
            self._forgo(session.model, first)
            return self._with_first(decision, session.model, SESSION, reason)
        return replace(decision, reason=f"{decision.reason}; {reason}")

    def _forgo(self, model: str, other: str) -> None:
        """Note the extra cost of this turn over another model's own cache."""
        if model not in self._config.members(other):
            self._stayed = other, max(0.0, (self._cost(model) or 0.0) - (self._cost(other, is_warm=True) or 0.0))

    def _unstalled(self, decision: Decision, model: str) -> Decision:
        """Leave a model that repeats itself for one above it.

        Where there is none, it stays, at more effort.
        """
        if decision.efforts and model in self._config.members(decision.candidates[0]):
            self.move = "stays"
            return decision
        higher = escalated(decision, model, self._config, "the conversation repeats itself")
        self.move = "stays" if higher is decision else "switches"
        if higher is not decision:
            return higher
        return self._with_first(decision, model, SESSION, f"it repeats itself, and nothing is above {model}")

    def _kept_cheap(self, decision: Decision, task: str) -> Decision:
        """Send housekeeping to the cheapest model, its cache included."""
        allowed = _bounds(decision)
        models = dict.fromkeys(deployment.model for deployment in self._config.deployments)
        priced = [
            (usd, model)
            for model in models
            if (allowed is None or model in self._models(allowed)) and (usd := self._cost(model)) is not None
        ]
        if not priced:
            return decision
        usd, cheapest = min(priced, key=lambda one: one[0])
        reason = f"{task}: {cheapest} costs least, {_usd(usd)}"
        return self._with_first(decision, cheapest, HOUSEKEEPING, reason)

    def _fitting(self, decision: Decision) -> Decision:
        """Add the models that a too long request fits, cheapest first."""
        chosen = self._models(decision.candidates)
        if _bounds(decision) is not None or any(self._fits(model) for model in chosen):
            return decision
        deployments = [one for model in chosen for one in self._config.deployments_of(model)]
        if not any(is_too_short(one, self._config, self._needs) for one in deployments):
            return decision
        larger = self._fitting_models(chosen)
        if not larger:
            return decision
        reason = f"{decision.reason}; too long for {', '.join(chosen)}: {larger[0]} takes it"
        return revised(decision, (*larger, *decision.candidates), SESSION, reason)

    def _fitting_models(self, besides: Collection[str]) -> tuple[str, ...]:
        names = dict.fromkeys(deployment.model for deployment in self._config.deployments)
        priced = [(self._cost(name), name) for name in names if name not in besides and self._fits(name)]
        priced.sort(key=lambda one: float("inf") if one[0] is None else one[0])
        return tuple(name for _, name in priced)

    def _with_first(self, decision: Decision, model: str, strategy: str, reason: str) -> Decision:
        others = [name for tier in decision.cascade for name in tier] + list(decision.candidates)
        candidates = tuple(dict.fromkeys((model, *others)))
        return revised(decision, candidates, strategy, reason)

    def _may_answer(self, model: str, decision: Decision) -> bool:
        """Return True if the decision allows a model.

        It names the model, or the model is no cheaper than its first one.

        A strategy that chose a model named the others for failover alone. A rule that filters models, or that names
        them, bounds what may answer.
        """
        if not self._fits(model):
            return False
        first = first_of(decision)
        is_named = model in self._models([name for tier in decision.cascade for name in tier] or decision.candidates)
        if _bounds(decision) is not None:
            return is_named
        if is_named and decision.strategy not in CHOSEN:
            return True
        own, others = price_level(model, self._config), price_level(first, self._config)
        return own is not None and others is not None and own >= others

    def _is_left(self, model: str, decision: Decision) -> bool:
        """Return True unless a rule's or plugin's filter excludes a model.

        The caller's limits hold at any time.
        """
        allowed = _bounds(decision, filters_only=True)
        return allowed is None or model in self._models(allowed)

    def _models(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(model for name in names for model in self._config.members(name)))

    def _fits(self, name: str) -> bool:
        return any(True for _ in self._fitting_deployments(name))

    def _fitting_deployments(self, name: str) -> Iterator[Deployment]:
        for deployment in self._config.deployments_of(name):
            if not fits(deployment, self._config, self._needs):
                yield deployment

    def _ask_cost(self, name: str) -> float | None:
        """Return the expected cost of this ask at a model, USD.

        It counts this turn, and those that follow with the results of tools.

        Those find the prefix in a cache. Their number is the mean of the conversation's asks so far.
        """
        first, later = self._cost(name), self._cost(name, is_warm=True)
        return None if first is None or later is None else first + (turns_of_an_ask(self._request) - 1.0) * later

    def _cost(self, name: str, *, is_warm: bool = False) -> float | None:
        """Return the expected cost of this turn at a model, USD.

        It is that of its cheapest deployment that takes the turn.

        None where no price is known. With ``is_warm`` it is as if that deployment had the prefix in its cache.
        """
        costs = [self._cost_at(deployment, is_warm) for deployment in self._fitting_deployments(name)]
        return min((cost for cost in costs if cost is not None), default=None)

    def _cost_at(self, deployment: Deployment, is_warm: bool) -> float | None:
        session, needs = self._session or Session(0.0), self._needs
        input_tokens = max(1, round(needs.input_tokens * session.scale))
        price = price_of(deployment, self._config, input_tokens)
        if price is None:
            return None
        usual = USUAL_ANSWER if session.output_tokens is None else session.output_tokens
        output_tokens = min(usual, needs.max_output_tokens) if needs.output_is_set else usual
        cached = {name: prefix.tokens for name, prefix in session.caches.items()}
        longest = max(cached.values(), default=0)
        own = longest if is_warm else cached.get(deployment.name, 0)
        return turn_cost(price, input_tokens, output_tokens, own, longest)


def turns_of_an_ask(request: Request) -> float:
    """Return the mean number of answers to an ask of a conversation.

    It is taken before the last ask, and 1 at its beginning.
    """
    roles = [role_of(message) for message in request.messages]
    asks = roles.count("user") - 1
    return max(1.0, roles.count("assistant") / asks) if asks > 0 else 1.0


def first_of(decision: Decision) -> str:
    """Return the model or group that a decision asks first."""
    return decision.cascade[0][0] if decision.cascade else decision.candidates[0]


def _bounds(decision: Decision, *, filters_only: bool = False) -> Sequence[str] | None:
    """Return the models that rules or plugins allow; None if they allow all.

    A category bounds nothing: a model that is no cheaper than its first does as well.

    Args:
        decision: the router's decision.
        filters_only: whether a rule that names the models itself bounds nothing either.
    """
    allowed: Sequence[str] | None = None
    for opinion in decision.opinions:
        is_named = opinion.kind == "decided" and opinion.strategy == "rules" and not filters_only
        if opinion.category is None and (is_named or opinion.kind == "narrowed"):
            allowed = opinion.candidates if allowed is None else [one for one in allowed if one in opinion.candidates]
    return allowed
