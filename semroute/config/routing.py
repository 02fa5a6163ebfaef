"""Rules and strategies: sections of ``semroute.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo, model_validator

from semroute.config.deployments import Dollars
from semroute.config.extensions import BUILT_IN, factory_of, plugins_of, resolve
from semroute.config.values import Name, Names, Positive, Section, bad_value, optional_folder
from semroute.errors import MissingExtraError
from semroute.text.language import LANGUAGES
from semroute.text.names import did_you_mean
from semroute.text.normalise import folded
from semroute.text.patterns import LinearPattern, PatternError

T = TypeVar("T")


def listed(value: object) -> object:
    """Wrap a single value as a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


def filled(values: tuple[T, ...]) -> tuple[T, ...]:
    """Check that a list is not empty."""
    if not values:
        raise bad_value("must not be empty", "list something, or remove the key")
    return values


def words(value: str) -> str:
    """Check that a keyword is not blank after folding case and space."""
    if not folded(value):
        raise bad_value("must not be blank", "write a word")
    return value


def pattern(value: str) -> str:
    """Check that RE2 compiles a pattern.

    It is unchecked where RE2 is not installed: the compiler of the rules then names the missing extra.
    """
    try:
        LinearPattern(value)
    except PatternError as error:
        raise bad_value(error.message, error.fix) from None
    except MissingExtraError:
        pass
    return value


def language(value: str) -> str:
    """Check that a language is an ISO 639-1 code that can be detected."""
    if value not in LANGUAGES:
        fix = did_you_mean(value.lower(), LANGUAGES) or f"known here: {', '.join(sorted(LANGUAGES))}"
        raise bad_value("is not the ISO 639-1 code of a language that is detected", fix)
    return value


def attachments(value: object) -> str:
    """Normalise ``true``, ``false`` or ``image`` for attachments.

    The normalised values ``any`` and ``none`` are accepted too.
    """
    word = {True: "any", False: "none"}.get(value) if isinstance(value, bool) else value
    if word not in ("any", "none", "image"):
        raise bad_value("must be true, false or image", "true: anything besides text")
    return str(word)


def said_tools(value: object) -> bool | tuple[str, ...]:
    """Normalise ``true``, ``false``, or names of tools."""
    if isinstance(value, bool):
        return value
    names = listed(value)
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) and name for name in names):
        raise bad_value("must be true, false or names of tools", "write it like [search, calculator]")
    return tuple(names)


# Rules: conditions on a query, and its routes. A section of ``semroute.yaml``.

Words: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(words)], ...], Field(strict=False)]
Pattern: TypeAlias = Annotated[str, AfterValidator(pattern)]
Language: TypeAlias = Annotated[str, AfterValidator(language)]
Languages: TypeAlias = Annotated[
    tuple[Language, ...], BeforeValidator(listed), Field(strict=False), AfterValidator(filled)
]
Attached: TypeAlias = Annotated[Literal["any", "none", "image"], PlainValidator(attachments)]
Tools: TypeAlias = Annotated[bool | tuple[str, ...], PlainValidator(said_tools)]
Values: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(listed), Field(strict=False), AfterValidator(filled)]


class Range(Section):
    """Closed range from ``min`` to ``max``; None is no bound."""

    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise bad_value("has no bound", "write {min: number}, {max: number} or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise bad_value("is empty: min is greater than max", "swap the two")
        return self


class Keywords(Section):
    """Whole-word keywords, case-insensitive.

    At least one of ``any`` and each of ``all`` must occur.
    """

    any: Words = ()
    all: Words = ()

    @model_validator(mode="before")
    @classmethod
    def _expand_list(cls, data: object) -> object:
        return {"any": listed(data)} if isinstance(data, str | list | tuple) else data

    @model_validator(mode="after")
    def _check_words(self) -> Self:
        if not self.any and not self.all:
            raise bad_value("has no words", "write a list of words, or {all: [first, second]}")
        return self


class Condition(Section):
    """Condition on a query: each key that is given must hold.

    Without any key it always holds.

    Attributes:
        chars: characters of the routed text.
        tokens: estimated tokens of all that is sent: messages, tools and schema.
        turns: turns of the user in the conversation.
        tool_loop: results of tools since the user's last words.
        stalled: whether the agent makes the same call with the same result, or meets the same error, three times in a
            row.
        plan_mode: whether a coding agent (Claude Code, Codex, opencode) says that it plans and changes nothing yet.
        keywords: words of the routed text.
        regex: a pattern of RE2 that is found in the routed text.
        code: whether the routed text holds code.
        language: ISO 639-1 codes, one of which is the routed text's language.
        attachments: ``any``: there is something besides text; ``none``: there is not; ``image``: there is an image.
        tools: True: tools are offered; False: none is; names: one of these is.
        json_schema: whether the answer has to follow a JSON schema.
        metadata: values of the caller's metadata; one of those listed for each key.
        any: conditions of which one must hold.
        all: conditions that must all hold.
        not_: a condition that must not hold; ``not`` in the file.
    """

    chars: Range | None = None
    tokens: Range | None = None
    turns: Range | None = None
    tool_loop: Range | None = None
    stalled: bool | None = None
    plan_mode: bool | None = None
    keywords: Keywords | None = None
    regex: Pattern | None = None
    code: bool | None = None
    language: Languages | None = None
    attachments: Attached | None = None
    tools: Tools | None = None
    json_schema: bool | None = None
    metadata: Mapping[Name, Values] = Field(default_factory=dict)
    any: Annotated[tuple[Condition, ...], Field(strict=False), AfterValidator(filled)] = ()
    all: Annotated[tuple[Condition, ...], Field(strict=False), AfterValidator(filled)] = ()
    not_: Condition | None = Field(default=None, alias="not")

    @property
    def is_unconditional(self) -> bool:
        """True if it has no keys, and so always holds."""
        return self == Condition()


class Rule(Section):
    """Rule: a name, a condition, and exactly one of the four actions.

    Attributes:
        name: unique; shown in decisions.
        when: without it the rule holds for every query.
        use: these models, in this order.
        category: this category's models.
        only: later strategies choose among these models.
        except_: later strategies choose among the other models; ``except`` in the file.
    """

    name: Name
    when: Condition = Condition.default()
    use: Names | None = None
    category: Name | None = None
    only: Names | None = None
    except_: Names | None = Field(default=None, alias="except")

    @model_validator(mode="after")
    def _check_action(self) -> Self:
        actions = [self.use, self.category, self.only, self.except_]
        if sum(action is not None for action in actions) != 1:
            raise bad_value("must do exactly one thing", "give it one of use, category, only and except")
        return self

    @property
    def decides(self) -> bool:
        """True if it selects models.

        Other rules filter the candidates of later strategies.
        """
        return self.use is not None or self.category is not None

    @property
    def models(self) -> tuple[str, ...]:
        """Models and groups that it names."""
        return self.use or self.only or self.except_ or ()


# Strategies in order, and the settings of each. Sections of ``semroute.yaml``.


def strategy_name(name: str, info: ValidationInfo) -> str:
    """Check a strategy's name: built in, or a plugin that is imported now."""
    if name not in BUILT_IN["strategies"]:
        factory_of(resolve("strategies", name, plugins_of(info.context)))
    return name


StrategyName: TypeAlias = Annotated[str, AfterValidator(strategy_name)]
"""Name of a built-in strategy or of a plugin; its options are the section of its name."""
StrategyNames: TypeAlias = Annotated[tuple[StrategyName, ...], Field(strict=False, min_length=1)]

DEFAULT_STRATEGIES: tuple[str, ...] = ("rules", "semantic", "classifier", "judge")


class Semantic(Section):
    """Semantic strategy: compares a query with the categories.

    Attributes:
        mode: ``decide`` selects the category's models in their order; ``narrow`` leaves the choice among them to later
            strategies, and falls back to the category's order where none of these decides.
    """

    mode: Literal["decide", "narrow"] = "decide"


class Classifier(Section):
    """Classifier strategy: predicts how good each model's answer would be.

    Attributes:
        folder: from ``semroute train``; None turns it off.
        value: USD that +1.0 of quality is worth; None takes the value that training found.
        candidates: models and groups that it chooses from unless an earlier strategy filtered them; None: those that it
            was trained on and that have a deployment.
    """

    folder: Annotated[Path | None, BeforeValidator(optional_folder)] = None
    value: Dollars | None = None
    candidates: Names | None = None


def named_folder(value: object) -> object:
    """Expand a folder to a classifier with the value that training found."""
    return {"folder": value} if isinstance(value, str) else value


class Judge(Section):
    """Judge strategy: asks a small model.

    Attributes:
        model: the model or group that judges; None turns the judge off.
        timeout_s: longest wait for its answer, seconds; after that the query goes where it would go without a judge.
        candidates: models and groups that it chooses from; None: those that some category or the fallback names and
            that have a deployment.
        max_usd: highest expected cost of one judgement; above it the judge is not asked. None is no ceiling.
        max_chars: characters of a query that it is shown: a longer one is truncated in the middle.
        cache: judgements in the cache; 0 disables it.
        cache_ttl_s: lifetime of a cached judgement, seconds.
    """

    model: Name | None = None
    timeout_s: Positive = 3.0
    candidates: Names | None = None
    max_usd: Dollars | None = 0.01
    max_chars: Annotated[int, Field(ge=100)] = 4000
    cache: Annotated[int, Field(ge=0)] = 10_000
    cache_ttl_s: Positive = 3600.0
