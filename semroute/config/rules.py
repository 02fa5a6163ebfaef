"""Rules: what a query must be like, and where it goes then. A section of ``semroute.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator

from semroute.config.conditions import attachments, filled, language, listed, pattern, said_tools, words
from semroute.config.sections import Name, Names, Section
from semroute.config.values import bad_value

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
    """From ``min`` to ``max``, both included; None is no bound."""

    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.min is None and self.max is None:
            raise bad_value("bounds nothing", "write {min: number}, {max: number} or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise bad_value("holds for no number: min is greater than max", "swap the two")
        return self


class Keywords(Section):
    """Whole words, whatever their case: at least one of ``any`` and each of ``all``."""

    any: Words = ()
    all: Words = ()

    @model_validator(mode="before")
    @classmethod
    def _a_list_means_any(cls, data: object) -> object:
        return {"any": listed(data)} if isinstance(data, str | list | tuple) else data

    @model_validator(mode="after")
    def _wants_something(self) -> Self:
        if not self.any and not self.all:
            raise bad_value("names no word", "write a list of words, or {all: [first, second]}")
        return self


class Condition(Section):
    """What a query must be like: each key that is given must hold. Without any, it always holds.

    Attributes:
        chars: characters of the routed text.
        tokens: estimated tokens of all that is sent: messages, tools and schema.
        turns: turns of the user in the conversation.
        keywords: words of the routed text.
        regex: a pattern of RE2 that is found in the routed text.
        code: whether the routed text holds code.
        language: ISO 639-1 codes, one of which is the routed text's language.
        attachments: ``any``: there is something beside text; ``none``: there is not; ``image``: there is an image.
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
        """Whether it names nothing, and so always holds."""
        return self == Condition()


class Rule(Section):
    """One rule: a name, a condition, and exactly one of the four actions.

    Attributes:
        name: unique; shown in decisions.
        when: without it the rule holds for every query.
        use: these models, in this order.
        category: this category's models.
        only: the strategies after it choose among these models.
        except_: the strategies after it choose among the other models; ``except`` in the file.
    """

    name: Name
    when: Condition = Condition.default()
    use: Names | None = None
    category: Name | None = None
    only: Names | None = None
    except_: Names | None = Field(default=None, alias="except")

    @model_validator(mode="after")
    def _does_one_thing(self) -> Self:
        done = [self.use, self.category, self.only, self.except_]
        if sum(action is not None for action in done) != 1:
            raise bad_value("must do exactly one thing", "give it one of use, category, only and except")
        return self

    @property
    def decides(self) -> bool:
        """Whether it settles a query; the others narrow what the strategies after it choose from."""
        return self.use is not None or self.category is not None

    @property
    def models(self) -> tuple[str, ...]:
        """The models and groups that it names."""
        return self.use or self.only or self.except_ or ()
