"""Format checks: empty, truncated, refusal, schema, language, pattern."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any, TypeAlias

from semroute.cascade.checks import CheckInput, UncheckableError, unforeseen
from semroute.cascade.refusals import refusal_in
from semroute.config.cascade import SAME, Format
from semroute.errors import MissingExtraError
from semroute.eventloop import WorkerPool
from semroute.text.language import detect_language, prepare_language_detection
from semroute.text.patterns import LinearPattern, PatternError
from semroute.types import CheckResult

# Validation of answers against a caller's JSON Schema: offline, off the event loop, within a budget of work.
#
# A schema arrives with a request, so it is untrusted. Nothing is retrieved: a ``$ref`` that leaves the document
# resolves to a published meta-schema or to nothing. Patterns are matched by RE2 in linear time. Every keyword
# application spends from a budget of processor time, because a schema of a few lines can ask for 2^50 applications.
# The dialects are jsonschema's (https://json-schema.org/specification); ``format`` is an annotation, the default there.

MOST_CPU_S = 0.3
"""Processor time of one validation, seconds. An ordinary schema takes a millisecond."""
MOST_WAIT_S = 2.0
"""Longest time of a validation, including its wait for others, seconds."""
MOST_VALUES = 20_000
"""Most values in a schema: objects, arrays, strings and the like."""
MOST_CHARACTERS = 1_000_000
"""Most characters in an answer."""
DEEPEST = 200
"""Most nesting levels of a schema."""
MOST_UNEVALUATED = 100
"""Most members of an object or array under ``unevaluatedProperties`` or ``unevaluatedItems``, which take quadratic
time."""
THREADS = 2

Keyword: TypeAlias = Callable[[Any, Any, Any, Any], "Iterable[Any] | None"]
"""Keyword function of jsonschema: validator, value of the keyword, instance, schema."""

_workers = WorkerPool("semroute-schema", THREADS)
_UNICODE_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


async def schema_fault(text: str, schema: Mapping[str, object]) -> str | None:
    """Return how an answer violates a schema, or None if it is valid.

    Args:
        text: the answer.
        schema: JSON Schema of any dialect from draft 3 to 2020-12.

    Raises:
        UncheckableError: the schema is invalid, has an unresolvable reference, or takes too much work.
    """
    try:
        return await asyncio.wait_for(_workers.run(find_fault, text, schema), MOST_WAIT_S)
    except TimeoutError:
        raise UncheckableError("too many schemas are being checked at this moment") from None


def find_fault(text: str, schema: Mapping[str, object]) -> str | None:
    """Run :func:`schema_fault` synchronously in the calling thread.

    Raises:
        UncheckableError: as there.
    """
    if len(text) > MOST_CHARACTERS:
        raise UncheckableError(f"the answer is longer than {MOST_CHARACTERS:,} characters")
    try:
        value: Any = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        return f"it is not JSON ({error.msg})"
    except RecursionError:
        return "it is not JSON (nested too deeply)"
    except ValueError:  # Python does not parse an integer of so many digits
        raise UncheckableError("the answer holds a number of too many digits") from None
    from referencing.exceptions import Unresolvable

    budget = _Budget()
    token = _budget.set(budget)
    try:
        return _breach(value, budget.copied(schema))
    except UncheckableError:
        raise
    except Unresolvable:
        raise UncheckableError("a $ref leads to nothing within the schema, and nothing is retrieved") from None
    except RecursionError:
        raise UncheckableError("it is nested too deeply") from None
    # jsonschema raises many kinds of errors for an invalid schema. Their messages may repeat the answer, so they are
    # not passed on.
    except Exception as error:
        raise UncheckableError(f"the schema cannot be applied ({type(error).__name__})") from None
    finally:
        _budget.reset(token)


def _no_number(name: str) -> float:
    """Reject NaN and the infinities, which Python parses beyond JSON."""
    raise json.JSONDecodeError(f"{name} is no number of JSON", name, 0)


def _breach(value: Any, schema: Any) -> str | None:
    from referencing import Registry

    kind = _dialect(schema)
    offline: Registry[Any] = Registry()
    for _ in kind(kind.META_SCHEMA, registry=offline).iter_errors(schema):
        raise UncheckableError("the schema itself is invalid")
    for error in kind(schema, registry=offline).iter_errors(value):
        # Only the rule of the message: the rest repeats the answer.
        return f"it does not follow the schema ({error.json_path} breaks {error.validator})"
    return None


class _Budget:
    """Remaining budget of one validation, with its compiled patterns."""

    def __init__(self) -> None:
        # Processor time of this thread, not wall time: a busy machine must not change a result.
        self._until = time.thread_time() + MOST_CPU_S
        self._values = MOST_VALUES
        self._patterns: dict[str, LinearPattern] = {}
        self.has_pattern_properties = False

    def spend(self) -> None:
        """Stop the validation once its budget is used up."""
        if time.thread_time() > self._until:
            raise UncheckableError(f"it takes more than {MOST_CPU_S:g} s of work")

    def copied(self, value: Any, depth: int = 0) -> Any:
        """Copy a schema into plain dicts and lists.

        The copy bounds its size and protects it from concurrent changes.
        """
        self._values -= 1
        if self._values < 0 or depth > DEEPEST:
            raise UncheckableError(f"the schema has more than {MOST_VALUES:,} values or {DEEPEST} levels")
        if isinstance(value, Mapping):
            self.has_pattern_properties |= "patternProperties" in value
            return {str(key): self.copied(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.copied(item, depth + 1) for item in value]
        return value

    def finds(self, pattern: str, text: str) -> bool:
        """Return True if a text matches a schema's pattern."""
        self.spend()
        compiled = self._patterns.get(pattern)
        if compiled is None:
            try:
                compiled = LinearPattern(_in_re2(pattern))
            except PatternError:
                raise UncheckableError(
                    "a pattern is invalid, too large, or uses look-around or back-references"
                ) from None
            except MissingExtraError as error:
                raise UncheckableError(str(error)) from None
            self._patterns[pattern] = compiled
        if len(text) * 4 > compiled.reads and len(text.encode("utf-8", "replace")) > compiled.reads:
            raise UncheckableError("a text is too long for its pattern")
        return compiled.found_in(text)


_budget: ContextVar[_Budget] = ContextVar("schema budget")


def _in_re2(pattern: str) -> str:
    r"""Translate ``\uXXXX`` of a pattern to ``\x{XXXX}`` of RE2.

    JSON Schema refers to ECMA-262 for patterns.
    """
    return _UNICODE_ESCAPE.sub(lambda found: f"\\x{{{found[1]}}}" if found[1] else found[0], pattern)


def _dialect(schema: Any) -> Any:
    """Return the metered validator class of a schema's dialect.

    The default is the latest dialect.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    named = schema.get("$schema") if isinstance(schema, dict) else None
    if named is None:
        return _metered(Draft202012Validator)
    found = validator_for({"$schema": named}, default=None)
    if found is None:
        raise UncheckableError("its $schema names a dialect that is not known here")
    return _metered(found)


@cache
def _metered(kind: Any) -> Any:
    """Return a validator class that spends budget at every step and uses RE2."""
    from attrs import fields
    from jsonschema.validators import extend

    own: dict[str, Keyword] = {
        "pattern": _schema_pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
    }
    keywords: dict[str, Keyword] = {**kind.VALIDATORS, **{name: own[name] for name in own if name in kind.VALIDATORS}}
    for name in ("unevaluatedProperties", "unevaluatedItems"):
        if name in keywords:
            keywords[name] = _unevaluated(keywords[name])
    # The look-up of evaluated members recurses outside of keywords, and checks this type at each step.
    types = kind.TYPE_CHECKER.redefine("boolean", _is_boolean)
    made = extend(kind, {name: _spending(keyword) for name, keyword in keywords.items()}, type_checker=types)
    names = [(field.name, field.alias) for field in fields(made) if field.init]

    def evolve(self: Any, **changes: Any) -> Any:
        # jsonschema's own evolve takes the unmetered class of the dialect that a subschema names.
        _budget.get().spend()
        for name, alias in names:
            if alias not in changes:
                changes[alias] = getattr(self, name)
        return made(**changes)

    made.evolve = evolve
    return made


def _spending(keyword: Keyword) -> Keyword:
    def spending(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        _budget.get().spend()
        yield from keyword(validator, value, instance, schema) or ()

    return spending


def _is_boolean(checker: object, instance: object) -> bool:
    _budget.get().spend()
    return isinstance(instance, bool)


def _schema_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "string") and not _budget.get().finds(pattern, instance):
        yield _broken()


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        for pattern, inner in patterns.items():
            for name, value in instance.items():
                if _budget.get().finds(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    named, patterns, budget = schema.get("properties", {}), schema.get("patternProperties", {}), _budget.get()
    for name in instance:
        if name not in named and not any(budget.finds(pattern, name) for pattern in patterns):
            if validator.is_type(wanted, "object"):
                yield from validator.descend(instance[name], wanted, path=name)
            elif not wanted:
                yield _broken()


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not wanted or not validator.is_type(instance, "array"):
        return
    seen = set()
    for item in instance:
        key = _identity(item)
        if key in seen:
            yield _broken()
            return
        seen.add(key)


def _identity(value: Any) -> Any:
    """Return a hashable key of a JSON value, the same for equal values.

    1 and 1.0 are equal, 1 and true are not.
    """
    _budget.get().spend()
    if isinstance(value, dict):
        return "object", frozenset((name, _identity(item)) for name, item in value.items())
    if isinstance(value, list):
        return "array", tuple(map(_identity, value))
    return type(value) is bool, value


def _unevaluated(keyword: Keyword) -> Keyword:
    def bounded(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[Any] | None:
        if isinstance(instance, dict | list):
            if len(instance) > MOST_UNEVALUATED:
                raise UncheckableError(f"more than {MOST_UNEVALUATED} members are compared with an unevaluated keyword")
            if isinstance(instance, dict) and _budget.get().has_pattern_properties:
                # jsonschema would match these patterns with a backtracking matcher.
                raise UncheckableError("unevaluatedProperties and patternProperties are not checked together")
        return keyword(validator, value, instance, schema)

    return bounded


def _broken() -> Any:
    from jsonschema import ValidationError

    return ValidationError("the schema's rule is broken")


_FENCE = "```"

Fault: TypeAlias = Callable[[CheckInput], Awaitable[str | None]]
"""Function that returns one kind of fault of an answer, or None."""


class FormatCheck:
    """Check that rejects answers with a fault of format.

    Args:
        wanted: configuration of the format checks.

    Raises:
        MissingExtraError: language or pattern are configured, and their extra is not installed.
    """

    name = "format"
    wants_logprobs = False

    def __init__(self, wanted: Format) -> None:
        self._faults = tuple(_faults(wanted))

    async def judge(self, answered: CheckInput) -> CheckResult:
        """Return the first fault, if any.

        A tool call has no text and is checked for length only.
        """
        unknown: list[str] = []
        for part, fault in self._faults:
            try:
                reason = await fault(answered)
            except UncheckableError as error:
                unknown.append(f"its {part} cannot be checked ({error})")
            except Exception as error:
                unknown.append(f"its {part} cannot be checked ({unforeseen(error)})")
            else:
                if reason is not None:
                    return CheckResult(self.name, False, reason)
        return CheckResult(self.name, True, "; ".join(unknown) or "its form is right", skipped=bool(unknown))


def _faults(wanted: Format) -> Iterator[tuple[str, Fault]]:
    """Yield the configured format checks with their names."""
    if wanted.refusal:
        yield "refusal", _at_once(_refusal)
    if wanted.empty:
        yield "emptiness", _at_once(_empty)
    if wanted.length:
        yield "length", _at_once(_cut_off)
    if wanted.schema_:
        yield "schema", _schema
    if wanted.fence:
        yield "fence", _at_once(_fence)
    if wanted.language is not None:
        yield "language", _at_once(_language(wanted.language))
    if wanted.pattern is not None:
        yield "pattern", _at_once(_pattern(wanted.pattern))


def _at_once(fault: Callable[[CheckInput], str | None]) -> Fault:
    @wraps(fault)
    async def found(answered: CheckInput) -> str | None:
        return fault(answered)

    return found


def _refusal(answered: CheckInput) -> str | None:
    answer = answered.completion
    if answer.refusal is not None or answer.finish_reason in ("refusal", "content_filter"):
        return "the provider marks it as a refusal"
    found = refusal_in(answer.text)
    return None if found is None else f"it is {found}"


def _empty(answered: CheckInput) -> str | None:
    return None if answered.completion.text.strip() or answered.completion.tool_calls else "it is empty"


def _cut_off(answered: CheckInput) -> str | None:
    return "it was cut off by the limit of tokens" if answered.completion.finish_reason == "length" else None


async def _schema(answered: CheckInput) -> str | None:
    schema = answered.request.json_schema
    if schema is None or answered.completion.tool_calls:
        return None
    return await schema_fault(answered.completion.text, schema)


def _fence(answered: CheckInput) -> str | None:
    lines = answered.completion.text.splitlines()
    marks = sum(line.lstrip().startswith(_FENCE) for line in lines)
    return "a code fence is not closed" if marks % 2 else None


def _language(wanted: str) -> Callable[[CheckInput], str | None]:
    prepare_language_detection()

    def fault(answered: CheckInput) -> str | None:
        expected = detect_language(answered.text) if wanted == SAME else wanted
        written = detect_language(_prose(answered.completion.text))
        if expected is None or written is None or written == expected:
            return None  # an uncertain language is no evidence against the answer
        return f"it is in {written}, and not in {expected}"

    return fault


def _pattern(pattern: str) -> Callable[[CheckInput], str | None]:
    compiled = LinearPattern(pattern)

    def fault(answered: CheckInput) -> str | None:
        if compiled.found_in(answered.completion.text) or answered.completion.tool_calls:
            return None
        return "the required pattern is not in it"

    return fault


def _prose(text: str) -> str:
    """Return a text without code blocks, which are in no natural language."""
    return "\n".join(text.split(_FENCE)[::2])
