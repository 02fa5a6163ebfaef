"""Cascade section of ``semroute.yaml``: tiers, checks of their answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from semroute.config.deployments import Dollars
from semroute.config.extensions import PluginSection, plugin_section, with_checks
from semroute.config.routing import Pattern, language
from semroute.config.values import Count, Name, Positive, Section, Share, bad_value, folder

Unmeasured: TypeAlias = Literal["consistency", "quality", "accept", "escalate"]
"""Substitute for a missing confidence, where a model gives no log probabilities: compare a second sample, ask a
classifier, or neither.
"""

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""Reasoning effort in OpenAI's words; each wire format translates it, and not every one supports all of them."""

SAME = "same"
"""Language of an answer that is the query's."""


def _answer_language(value: str) -> str:
    return value if value == SAME else language(value)


def _switched_off(value: object) -> object:
    return None if value is False else value


class Format(Section):
    """Format checks of an answer; each is on by default unless it is optional.

    Attributes:
        empty: text or a call of a tool is there.
        length: it was not cut off by the limit of tokens.
        refusal: it is no refusal and no evasion.
        schema_: it is JSON where the request has a schema, and follows it; ``schema`` in the file.
        fence: every code fence is closed.
        language: ``same``: the language of the query; or an ISO 639-1 code. None, or false, asks for none.
        pattern: a pattern of RE2 that must be found in it.
    """

    empty: bool = True
    length: bool = True
    refusal: bool = True
    schema_: bool = Field(default=True, alias="schema")
    fence: bool = True
    language: Annotated[Annotated[str, AfterValidator(_answer_language)] | None, BeforeValidator(_switched_off)] = None
    pattern: Pattern | None = None


def _switch(value: object) -> object:
    """Expand ``format: true`` to the default checks, and false to none."""
    return {} if value is True else None if value is False else value


class Quality(Section):
    """Trained classifier of answers.

    Its folder alone is the classifier with its own threshold.

    Attributes:
        classifier: folder that ``semroute train-checks`` has written, relative to that of the file.
        threshold: least probability that an answer is acceptable; None: what was chosen when it was trained.
    """

    classifier: Annotated[Path, BeforeValidator(folder)]
    threshold: Share | None = None


def _classifier(value: object) -> object:
    return {"classifier": value} if isinstance(value, str) else value


class Accept(Section):
    """Acceptance criteria of a tier's answer.

    Every check that is named must accept it. A further key is a check of a plugin, with its options.

    Attributes:
        format: true, false, or which of its parts.
        confidence: least geometric mean of the tokens' probabilities; None asks for none.
        quality: classifier of answers that must find it acceptable; None asks none.
        consistency: least agreement, 0 to 1, with a second answer that is drawn at a higher temperature; None draws
            none, but see ``without_logprobs``.
        agreement: two or more models or groups whose answers must say the same: a tier that calls one of them asks
            the others too. Other tiers are not compared. None compares none.
        agreement_at_once: ask the other models together with the tier's own: the answer comes as late as the slowest of
            them, and not as their sum. False asks one after another, and only where there is something to compare: that
            is cheaper where an answer cannot be compared, where an earlier check rejects it, or where the first of
            several others disagrees. With ``max_usd``, or where a tier may be streamed early, they are not asked at
            once.
        without_logprobs: what stands in for ``confidence`` where a model gives no log probabilities; ``quality`` asks
            the classifier only there.
        sample_temperature: of the second answer.
    """

    model_config = ConfigDict(extra="allow")
    if not TYPE_CHECKING:  # a type checker takes it for a field
        __pydantic_extra__: dict[str, Annotated[Any, PlainValidator(plugin_section)]]

    format: Annotated[Format | None, BeforeValidator(_switch)] = Format.default()
    confidence: Share | None = None
    quality: Annotated[Quality | None, BeforeValidator(_classifier)] = None
    consistency: Share | None = None
    agreement: Annotated[tuple[Name, ...] | None, Field(strict=False)] = None
    agreement_at_once: bool = False
    without_logprobs: Unmeasured = "consistency"
    sample_temperature: Annotated[float, Field(allow_inf_nan=False, gt=0, le=2)] = 0.7

    @model_validator(mode="before")
    @classmethod
    def _with_plugin_checks(cls, data: Any) -> Any:
        return with_checks(data, cls.model_fields)

    @property
    def plugin_checks(self) -> tuple[PluginSection, ...]:
        """Checks of plugins with their options, in the order of the file."""
        return tuple((self.model_extra or {}).values())

    @property
    def asks_quality_instead(self) -> bool:
        """True if the classifier only substitutes for log probabilities."""
        return self.confidence is not None and self.without_logprobs == "quality"

    @model_validator(mode="after")
    def _check_substitute(self) -> Self:
        if self.without_logprobs == "quality" and self.quality is None:
            raise bad_value(
                '"without_logprobs: quality" needs a classifier', 'add "quality: DIR", from semroute train-checks'
            )
        return self

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if self.agreement is not None and len(set(self.agreement)) < max(2, len(self.agreement)):
            raise bad_value("agreement needs two different models at least, each once", 'such as "[small, small2]"')
        return self


def _named(value: object) -> object:
    return {"use": value} if isinstance(value, str) else value


class TierConfig(Section):
    """One tier of a cascade.

    A name alone is the model or group that it calls.

    Attributes:
        use: model or group.
        effort: reasoning effort of its calls, unless the request sets its own; None leaves it to the model. The same
            model may be a tier at several efforts.
        accept: acceptance criteria in place of the cascade's own.
        quality: estimated share of queries that it answers well; for ``value_per_quality``.
    """

    use: Name
    effort: Effort | None = None
    accept: Accept | None = None
    quality: Share | None = None


class CascadeConfig(Section):
    """Cascade: tiers that are tried until one's answer is accepted.

    Attributes:
        tiers: cheapest first; without any there is no cascade.
        accept: acceptance criteria of the tiers' answers.
        start: ``cheapest``: a model that the classifier or the judge chose is called without a cascade; or
            ``decided``: their choice is the tier to start at, unless it is none.
        stream_after_tokens: a tier whose first so many tokens are clearly confident is streamed from there on, without
            escalation; None: an answer is checked whole before it is returned.
        value_per_quality: USD that +1.0 of quality is worth for one query: the next tier is tried only where what it is
            expected to gain is worth more than its price. None tries it whatever it costs.
        max_usd: most that a query's calls may be expected to cost together, deciding, retries and second answers
            included; each is counted before it is made. A tier above it, or of unknown price, is left out.
    """

    tiers: Annotated[tuple[Annotated[TierConfig, BeforeValidator(_named)], ...], Field(strict=False)] = ()
    accept: Accept = Accept.default()
    start: Literal["cheapest", "decided"] = "cheapest"
    stream_after_tokens: Count | None = None
    value_per_quality: Positive | None = None
    max_usd: Dollars | None = None

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        shared = [tier.use for tier in self.tiers[:-1] if tier.accept is None]
        if self.tiers and self.accept.agreement and not set(shared).intersection(self.accept.agreement):
            raise bad_value(
                "no tier before the last calls a model of accept.agreement", "name a tier's model there too"
            )
        for tier in self.tiers:
            if tier.accept is not None and tier.accept.agreement and tier.use not in tier.accept.agreement:
                raise bad_value(f'tier "{tier.use}" is not among its agreement', "name its model there too")
        return self


def no_cascade(value: object) -> object:
    """Expand ``cascade: false`` to a cascade without tiers."""
    return {} if value is False else value
