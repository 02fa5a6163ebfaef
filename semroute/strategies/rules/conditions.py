"""Conditions of the configuration as criteria that can say why they hold or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from semroute.config import Condition, Keywords, Range
from semroute.strategies.rules.facts import Facts
from semroute.texts import LinearPattern, folded, has_words
from semroute.texts.language import require_language_detection


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
        wanted: the key with what it asks for.
        check: whether a query fulfils it.
        found: what the query has instead; None where saying whether it holds says it all.
    """

    wanted: str
    check: Callable[[Facts], bool]
    found: Callable[[Facts], str] | None = None

    def holds(self, facts: Facts) -> bool:
        return self.check(facts)

    def why(self, facts: Facts) -> str:
        holds = self.check(facts)
        if self.found is None:
            return self.wanted if holds else f"not {self.wanted}"
        return f"{self.wanted} ({'' if holds else 'not: '}{self.found(facts)})"


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
        yield Leaf(f"regex {condition.regex}", _Found(LinearPattern(condition.regex)))
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


@dataclass(frozen=True, slots=True)
class _Found:
    """Whether a pattern is found in the routed text."""

    pattern: LinearPattern

    def __call__(self, facts: Facts) -> bool:
        return self.pattern.found_in(facts.text)


def _flag(key: str, wanted: bool, has: Callable[[Facts], bool]) -> Leaf:
    return Leaf(key if wanted else f"no {key}", lambda facts: has(facts) is wanted)


def _range(key: str, bounds: Range, measure: Callable[[Facts], int]) -> Leaf:
    least, most = bounds.min, bounds.max
    said = f"at most {most}" if least is None else f"at least {least}" if most is None else f"{least} to {most}"

    def within(facts: Facts) -> bool:
        number = measure(facts)
        return (least is None or number >= least) and (most is None or number <= most)

    return Leaf(f"{key} {said}", within, lambda facts: str(measure(facts)))


def _keywords(wanted: Keywords) -> Leaf:
    some, every = tuple(map(folded, wanted.any)), tuple(map(folded, wanted.all))

    def found(facts: Facts) -> list[str]:
        return [word for word in dict.fromkeys((*some, *every)) if has_words(facts.folded, word)]

    def hold(facts: Facts) -> bool:
        text = facts.folded
        return all(has_words(text, word) for word in every) and (
            not some or any(has_words(text, word) for word in some)
        )

    said = [f"any of {', '.join(some)}" if some else "", f"all of {', '.join(every)}" if every else ""]
    return Leaf(f"keywords {' and '.join(filter(None, said))}", hold, lambda facts: ", ".join(found(facts)) or "none")


def _language(codes: tuple[str, ...]) -> Leaf:
    require_language_detection()
    return Leaf(
        f"language {' or '.join(codes)}",
        lambda facts: facts.language in codes,
        lambda facts: facts.language or "not known",
    )


def _attachments(wanted: str) -> Leaf:
    def found(facts: Facts) -> str:
        return ", ".join(facts.attachments) or "none"

    if wanted == "image":
        return Leaf("attachments image", lambda facts: "image_url" in facts.attachments, found)
    return Leaf(f"attachments {wanted}", lambda facts: bool(facts.attachments) is (wanted == "any"), found)


def _tools(wanted: bool | tuple[str, ...]) -> Leaf:
    def offered(facts: Facts) -> list[str]:
        return [tool.name for tool in facts.request.tools]

    if isinstance(wanted, bool):
        return Leaf("tools" if wanted else "no tools", lambda facts: bool(facts.request.tools) is wanted)
    return Leaf(
        f"tools {' or '.join(wanted)}",
        lambda facts: not set(wanted).isdisjoint(offered(facts)),
        lambda facts: ", ".join(offered(facts)) or "none",
    )


def _metadata(key: str, values: tuple[str, ...]) -> Leaf:
    return Leaf(
        f"metadata {key} {' or '.join(values)}",
        lambda facts: facts.request.metadata.get(key) in values,
        lambda facts: facts.request.metadata.get(key, "not given"),
    )
