"""Conditions of the configuration as criteria that can say why they hold or not."""

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
from semroute.types import Request, StrategyResult, StrategyResultKind

# What rules ask of a query, each worked out when it is first asked for and only once.

_FOR_WORDS = 50_000
"""Characters at each end of a text in which keywords are looked for, so that a hostile one takes milliseconds."""


class Facts:
    """The facts of one query.

    Args:
        text: the routed text.
        request: all that is asked.
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
        """Turns of the user in the conversation; results of tools that come in his name are none."""
        return sum(map(has_turn, self.request.messages))

    @cached_property
    def folded(self) -> str:
        """The routed text in which equal words are spelt alike; of a long one its ends."""
        text = self.text
        return folded(text if len(text) <= 2 * _FOR_WORDS else f"{text[:_FOR_WORDS]}\n{text[-_FOR_WORDS:]}")

    @cached_property
    def code(self) -> bool:
        """Whether the routed text holds code."""
        return looks_like_code(self.text)

    @cached_property
    def language(self) -> str | None:
        """The routed text's language, an ISO 639-1 code; None where it is not known."""
        return detect_language(self.text)

    @cached_property
    def attachments(self) -> tuple[str, ...]:
        """Types of the parts that are neither text nor a tool's, each once; ``image_url`` for images of any format."""
        return tuple(dict.fromkeys(kind for message in self.request.messages for kind in attachment_types(message)))


class Criterion(Protocol):
    """Something that a query fulfils or not."""

    def holds(self, facts: Facts) -> bool:
        """Whether the query fulfils it."""
        ...

    def why(self, facts: Facts) -> str:
        """In a few words, what it found, whether it holds or not."""
        ...


@dataclass(frozen=True, slots=True)
class Leaf:
    """One key of a condition.

    Attributes:
        check: whether a query fulfils it.
        say: what the query has.
        wanted: what it should have instead, said where it does not; empty where ``say`` tells enough.
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
    """Holds where each part holds; without parts always."""

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
    """Holds where one of the parts holds."""

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
    """Holds where the part does not."""

    part: Criterion

    def holds(self, facts: Facts) -> bool:
        return not self.part.holds(facts)

    def why(self, facts: Facts) -> str:
        said = self.part.why(facts)
        return f"excluded: {said}" if self.part.holds(facts) else said


def compiled(condition: Condition) -> Criterion:
    """A condition as a criterion.

    Raises:
        MissingExtraError: a pattern without the extra "rules", a language without the extra "language".
    """
    parts = tuple(_parts(condition))
    return parts[0] if len(parts) == 1 else Every(parts)


def _parts(condition: Condition) -> Iterator[Criterion]:
    """The keys that are given, cheap ones first: the order changes no answer."""
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


# The rules in order: the first that decides wins, and those before it that narrow apply.


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """What became of one rule for one query.

    Attributes:
        rule: its name.
        kind: whether it decided, narrowed, or passed, since its condition does not hold.
        why: what its condition found.
        models: what it decided on, or what it alone would leave; empty where it passed.
        category: the category that it names, where it decided on one.
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
    """Decides by rules. Safe to share between threads.

    Args:
        rules: in order.
        pool: what the names of models and groups stand for.
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

    def consult(self, cases: Sequence[RoutingContext]) -> list[StrategyResult]:
        """An opinion on each case: of the first rule that decides, else of those that narrow."""
        return [self._opinion(Facts(case.text, case.request), case.left) for case in cases]

    def trace(self, text: str, request: Request) -> list[RuleTrace]:
        """What becomes of each rule, up to the first that decides, for a routed text and all that is asked with it."""
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

    def _opinion(self, facts: Facts, left_before: tuple[str, ...] | None) -> StrategyResult:
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
        # An exception has no order of its own: what it leaves keeps the one that it had.
        return self._pool.without(left or left_before or entry.models, entry.rule.except_)


def _models(rule: Rule, number: int, pool: Pool, models: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What a rule decides on, or what it leaves of everything that there is."""
    if rule.category is not None:
        if rule.category not in models:
            known = ", ".join(models)
            raise ConfigError(f"the index has no such category; it has {known}", key=f"rules.{number}.category")
        return models[rule.category]
    if rule.except_ is not None:
        return pool.without(pool.names, rule.except_)
    return rule.use or rule.only or ()


# Rules: conditions on a query that settle where it goes, or narrow it, without a model.
