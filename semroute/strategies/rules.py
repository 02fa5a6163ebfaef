"""Rules strategy: conditions on a request that select or filter models.

Conditions of the configuration become criteria that can explain why they hold or not; no model is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from semroute.catalog import estimate_tokens
from semroute.config import Condition, Keywords, Range, Rule
from semroute.errors import ConfigError
from semroute.strategies.base import Pool, RoutingContext
from semroute.text.code import looks_like_code
from semroute.text.conversation import attachment_types, has_turn
from semroute.text.language import detect_language, prepare_language_detection
from semroute.text.normalise import folded, has_words
from semroute.text.patterns import LinearPattern
from semroute.text.signals import ToolHistory, is_in_plan_mode, tool_history
from semroute.types import Request, StrategyResult, StrategyResultKind

# Facts of a query that rules test, each computed on first use and only once.

_FOR_WORDS = 50_000
"""Characters at each end of a text that are searched for keywords, so that a hostile text takes milliseconds."""


class Facts:
    """Facts of one query, computed on first use.

    Args:
        text: the routed text.
        request: the whole request.
    """

    def __init__(self, text: str, request: Request) -> None:
        self.text = text
        self.request = request

    @property
    def chars(self) -> int:
        """Characters of the routed text."""
        return len(self.text)

    @cached_property
    def tokens(self) -> int:
        """Estimated tokens of messages, tools and schema."""
        return estimate_tokens(self.request)

    @cached_property
    def turns(self) -> int:
        """User turns in the conversation, without tool results in that role."""
        return sum(map(has_turn, self.request.messages))

    @cached_property
    def tool_history(self) -> ToolHistory:
        """History of the tools since the user's last words."""
        return tool_history(self.request.messages)

    @cached_property
    def plan_mode(self) -> bool:
        """True if a coding agent says that it plans."""
        return is_in_plan_mode(self.request.messages)

    @cached_property
    def folded(self) -> str:
        """Routed text with case and width folded; of a long one its ends."""
        text = self.text
        return folded(text if len(text) <= 2 * _FOR_WORDS else f"{text[:_FOR_WORDS]}\n{text[-_FOR_WORDS:]}")

    @cached_property
    def code(self) -> bool:
        """True if the routed text holds code."""
        return looks_like_code(self.text)

    @cached_property
    def language(self) -> str | None:
        """Language of the routed text, an ISO 639-1 code; None if unknown."""
        return detect_language(self.text)

    @cached_property
    def attachments(self) -> tuple[str, ...]:
        """Types of attachments, each once; ``image_url`` for any image.

        Attachments are the parts that are neither text nor a tool's.
        """
        return tuple(dict.fromkeys(kind for message in self.request.messages for kind in attachment_types(message)))


class Criterion(Protocol):
    """Criterion that a query fulfils or not."""

    def holds(self, facts: Facts) -> bool:
        """Return True if the query fulfils it."""
        ...

    def why(self, facts: Facts) -> str:
        """Return its finding in a few words, fulfilled or not."""
        ...


@dataclass(frozen=True, slots=True)
class Leaf:
    """Criterion of one key of a condition.

    Attributes:
        check: returns True if a query fulfils it.
        say: describes the query's value.
        wanted: describes the wanted value, for the reason why it does not hold; empty if ``say`` is enough.
    """

    check: Callable[[Facts], bool]
    say: Callable[[Facts], str]
    wanted: str = ""

    def holds(self, facts: Facts) -> bool:
        return self.check(facts)

    def why(self, facts: Facts) -> str:
        said = self.say(facts)
        return said if not self.wanted or self.check(facts) else f"{said}, not {self.wanted}"


@dataclass(frozen=True, slots=True)
class Every:
    """Criterion that holds if all parts hold; without parts always."""

    parts: tuple[Criterion, ...]

    def holds(self, facts: Facts) -> bool:
        return all(part.holds(facts) for part in self.parts)

    def why(self, facts: Facts) -> str:
        failing = next((part for part in self.parts if not part.holds(facts)), None)
        if failing is not None:
            return failing.why(facts)
        return " and ".join(part.why(facts) for part in self.parts) or "it asks for nothing"


@dataclass(frozen=True, slots=True)
class Some:
    """Criterion that holds if one of the parts holds."""

    parts: tuple[Criterion, ...]

    def holds(self, facts: Facts) -> bool:
        return any(part.holds(facts) for part in self.parts)

    def why(self, facts: Facts) -> str:
        holding = next((part for part in self.parts if part.holds(facts)), None)
        if holding is not None:
            return holding.why(facts)
        return f"none of: {'; '.join(part.why(facts) for part in self.parts)}"


@dataclass(frozen=True, slots=True)
class Not:
    """Criterion that holds if its part does not."""

    part: Criterion

    def holds(self, facts: Facts) -> bool:
        return not self.part.holds(facts)

    def why(self, facts: Facts) -> str:
        said = self.part.why(facts)
        return f"excluded: {said}" if self.part.holds(facts) else said


def compiled(condition: Condition) -> Criterion:
    """Compile a condition of the configuration to a criterion.

    Raises:
        MissingExtraError: a pattern without the extra "rules", a language without the extra "language".
    """
    parts = tuple(_parts(condition))
    return parts[0] if len(parts) == 1 else Every(parts)


def _parts(condition: Condition) -> Iterator[Criterion]:
    """Yield the keys' criteria, cheap first; the order changes no result."""
    yield from (_metadata(key, values) for key, values in condition.metadata.items())
    if condition.json_schema is not None:
        yield _flag("json_schema", condition.json_schema, lambda facts: facts.request.json_schema is not None)
    if condition.tools is not None:
        yield _tools(condition.tools)
    if condition.attachments is not None:
        yield _attachments(condition.attachments)
    if condition.chars is not None:
        yield _range("chars", condition.chars, lambda facts: facts.chars)
    if condition.turns is not None:
        yield _range("turns", condition.turns, lambda facts: facts.turns)
    if condition.tool_loop is not None:
        yield _range("tool loop", condition.tool_loop, lambda facts: facts.tool_history.results)
    if condition.stalled is not None:
        yield _stalled(condition.stalled)
    if condition.plan_mode is not None:
        yield _flag("plan mode", condition.plan_mode, lambda facts: facts.plan_mode)
    if condition.tokens is not None:
        yield _range("tokens", condition.tokens, lambda facts: facts.tokens)
    if condition.keywords is not None:
        yield _keywords(condition.keywords)
    if condition.regex is not None:
        yield _pattern(condition.regex)
    if condition.code is not None:
        yield _flag("code", condition.code, lambda facts: facts.code)
    if condition.language is not None:
        yield _language(condition.language)
    if condition.all:
        yield Every(tuple(map(compiled, condition.all)))
    if condition.any:
        yield Some(tuple(map(compiled, condition.any)))
    if condition.not_ is not None:
        yield Not(compiled(condition.not_))


def _flag(key: str, wanted: bool, has: Callable[[Facts], bool]) -> Leaf:
    return Leaf(lambda facts: has(facts) is wanted, lambda facts: key if has(facts) else f"no {key}")


def _range(key: str, bounds: Range, measure: Callable[[Facts], int]) -> Leaf:
    least, most = bounds.min, bounds.max
    wanted = f"at most {most}" if least is None else f"at least {least}" if most is None else f"{least} to {most}"

    def within(facts: Facts) -> bool:
        number = measure(facts)
        return (least is None or number >= least) and (most is None or number <= most)

    return Leaf(within, lambda facts: f"{key} {measure(facts)}", wanted)


def _stalled(wanted: bool) -> Leaf:
    return Leaf(
        lambda facts: facts.tool_history.is_stalled is wanted,
        lambda facts: f"stalled: {facts.tool_history}" if facts.tool_history.is_stalled else "not stalled",
    )


def _keywords(wanted: Keywords) -> Leaf:
    some, every = tuple(map(folded, wanted.any)), tuple(map(folded, wanted.all))

    def hold(facts: Facts) -> bool:
        text = facts.folded
        return all(has_words(text, word) for word in every) and (
            not some or any(has_words(text, word) for word in some)
        )

    def say(facts: Facts) -> str:
        found = [word for word in dict.fromkeys((*some, *every)) if has_words(facts.folded, word)]
        return f"keywords {', '.join(found)}" if found else "no keyword"

    said = [f"any of {', '.join(some)}" if some else "", f"all of {', '.join(every)}" if every else ""]
    return Leaf(hold, say, " and ".join(filter(None, said)))


def _pattern(regex: str) -> Leaf:
    pattern = LinearPattern(regex)

    def found(facts: Facts) -> bool:
        return pattern.found_in(facts.text)

    return Leaf(found, lambda facts: f"regex {regex} {'found' if found(facts) else 'not found'}")


def _language(codes: tuple[str, ...]) -> Leaf:
    prepare_language_detection()
    return Leaf(
        lambda facts: facts.language in codes,
        lambda facts: f"language {facts.language or 'not known'}",
        " or ".join(codes),
    )


def _attachments(wanted: str) -> Leaf:
    def say(facts: Facts) -> str:
        return f"attachments {', '.join(facts.attachments)}" if facts.attachments else "no attachments"

    if wanted == "image":
        return Leaf(lambda facts: "image_url" in facts.attachments, say, "an image")
    return Leaf(lambda facts: bool(facts.attachments) is (wanted == "any"), say)


def _tools(wanted: bool | tuple[str, ...]) -> Leaf:
    def offered(facts: Facts) -> list[str]:
        return [tool.name for tool in facts.request.tools]

    def say(facts: Facts) -> str:
        return f"tools {', '.join(offered(facts))}" if facts.request.tools else "no tools"

    if isinstance(wanted, bool):
        return Leaf(lambda facts: bool(facts.request.tools) is wanted, say)
    return Leaf(lambda facts: not set(wanted).isdisjoint(offered(facts)), say, " or ".join(wanted))


def _metadata(key: str, values: tuple[str, ...]) -> Leaf:
    return Leaf(
        lambda facts: facts.request.metadata.get(key) in values,
        lambda facts: f"{key} {facts.request.metadata.get(key, 'not given')}",
        " or ".join(values),
    )


# Rules in order: the first that selects wins, after the filters before it.


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """Trace of one rule for one query.

    Attributes:
        rule: its name.
        kind: selected (``decided``), filtered (``narrowed``), or abstained (``passed``): its condition does not hold.
        why: finding of its condition.
        models: the models that it selected, or that it alone would leave; empty if it abstained.
        category: the category that it selected, if any.
    """

    rule: str
    kind: StrategyResultKind
    why: str
    models: tuple[str, ...] = ()
    category: str | None = None


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    criterion: Criterion
    kind: StrategyResultKind
    models: tuple[str, ...]


class RulesStrategy:
    """Strategy that decides by rules. Safe to share between threads.

    Args:
        rules: in order.
        pool: resolves the names of models and groups.
        models: models of each category in order.

    Raises:
        ConfigError: a rule names a category that is not in ``models``.
        MissingExtraError: a condition needs an extra that is not installed.
    """

    name = "rules"
    needs_vectors = False
    needs_text = False  # a request's attachments, tools and metadata are there without any

    def __init__(self, rules: Sequence[Rule], pool: Pool, models: Mapping[str, tuple[str, ...]]) -> None:
        self._pool = pool
        self._rules = [
            _Compiled(
                rule,
                compiled(rule.when),
                "decided" if rule.decides else "narrowed",
                _models(rule, number, pool, models),
            )
            for number, rule in enumerate(rules)
        ]

    def decide(self, contexts: Sequence[RoutingContext]) -> list[StrategyResult]:
        """Return a result for each context: selected, else filtered."""
        return [self._result(Facts(context.text, context.request), context.left) for context in contexts]

    def trace(self, text: str, request: Request) -> list[RuleTrace]:
        """Trace each rule for a request, up to the first that selects."""
        facts = Facts(text, request)
        traces: list[RuleTrace] = []
        for entry, holds in self._tried(facts):
            why = entry.criterion.why(facts)
            if holds:
                traces.append(RuleTrace(entry.rule.name, entry.kind, why, entry.models, entry.rule.category))
            else:
                traces.append(RuleTrace(entry.rule.name, "passed", why))
        return traces

    def _tried(self, facts: Facts) -> Iterator[tuple[_Compiled, bool]]:
        for entry in self._rules:
            holds = entry.criterion.holds(facts)
            yield entry, holds
            if holds and entry.kind == "decided":
                return

    def _result(self, facts: Facts, left_before: tuple[str, ...] | None) -> StrategyResult:
        left: tuple[str, ...] | None = None
        said: list[str] = []
        for entry, holds in self._tried(facts):
            if not holds:
                continue
            rule, kept = entry.rule, self._kept(entry, left, left_before)
            said.append(f'rule "{rule.name}": {entry.criterion.why(facts)}')
            if not kept:
                said[-1] += ", but that leaves no model"
            if entry.kind == "decided":
                return StrategyResult(
                    self.name, "decided", "; ".join(said), kept or left or entry.models, rule.category
                )
            left = kept or left
        if left is None:
            return StrategyResult(self.name, "passed", "; ".join(said) or "no rule applies")
        return StrategyResult(self.name, "narrowed", "; ".join(said), left)

    def _kept(
        self, entry: _Compiled, left: tuple[str, ...] | None, left_before: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        if entry.rule.except_ is None:
            return self._pool.kept(entry.models, left)
        # An exclusion has no order of its own: the models that it leaves keep theirs.
        return self._pool.without(left or left_before or entry.models, entry.rule.except_)


def _models(rule: Rule, number: int, pool: Pool, models: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the models that a rule selects, or that it leaves of all."""
    if rule.category is not None:
        if rule.category not in models:
            known = ", ".join(models)
            raise ConfigError(f"the index has no such category; it has {known}", key=f"rules.{number}.category")
        return models[rule.category]
    if rule.except_ is not None:
        return pool.without(pool.names, rule.except_)
    return rule.use or rule.only or ()
