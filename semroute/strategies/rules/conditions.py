"""Conditions of the configuration as criteria that can say why they hold or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from semroute.config import Condition, Keywords, Range
from semroute.strategies.rules.facts import Facts
from semroute.texts import LinearPattern, folded, has_words
from semroute.texts.language import prepare_language_detection


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
