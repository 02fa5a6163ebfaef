"""The cascade: tiers, cheapest first, and what an answer must be like to be given. A section of ``semroute.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from semroute.config.deployments import Dollars
from semroute.config.routing import Pattern, language
from semroute.config.values import Count, Name, Positive, Section, Share, bad_value, folder

Unmeasured: TypeAlias = Literal["consistency", "quality", "accept", "escalate"]
"""What is done with an answer that comes without log probabilities: a second sample is compared, a classifier asked, or
neither.
"""

SAME = "same"
"""As the language of an answer: that of the query."""


def _wanted(value: str) -> str:
    return value if value == SAME else language(value)


def _switched_off(value: object) -> object:
    return None if value is False else value


class Format(Section):
    """What an answer must be like to the eye; each is on unless it says so.

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
    language: Annotated[Annotated[str, AfterValidator(_wanted)] | None, BeforeValidator(_switched_off)] = None
    pattern: Pattern | None = None


def _switch(value: object) -> object:
    """``format: true`` is all that is on by default."""
    return {} if value is True else None if value is False else value


class Quality(Section):
    """A trained classifier of answers; its folder alone is the classifier with its own threshold.

    Attributes:
        classifier: folder that ``semroute train-checks`` has written, relative to that of the file.
        threshold: least probability that an answer is acceptable; None: what was chosen when it was trained.
    """

    classifier: Annotated[Path, BeforeValidator(folder)]
    threshold: Share | None = None


def _classifier(value: object) -> object:
    return {"classifier": value} if isinstance(value, str) else value


class Accept(Section):
    """When the answer of a tier is good enough; every check that is named must pass.

    Attributes:
        format: true, false, or which of its parts.
        confidence: least geometric mean of the tokens' probabilities; None asks for none.
        quality: classifier of answers that must find it acceptable; None asks none.
        consistency: least agreement, 0 to 1, with a second answer that is drawn at a higher temperature; None draws
            none, but see ``without_logprobs``.
        without_logprobs: what stands in for ``confidence`` where a model gives no log probabilities; ``quality`` asks
            the classifier only there.
        sample_temperature: of the second answer.
    """

    format: Annotated[Format | None, BeforeValidator(_switch)] = Format.default()
    confidence: Share | None = None
    quality: Annotated[Quality | None, BeforeValidator(_classifier)] = None
    consistency: Share | None = None
    without_logprobs: Unmeasured = "consistency"
    sample_temperature: Annotated[float, Field(allow_inf_nan=False, gt=0, le=2)] = 0.7

    @property
    def asks_quality_instead(self) -> bool:
        """Whether the classifier only stands in for log probabilities."""
        return self.confidence is not None and self.without_logprobs == "quality"

    @model_validator(mode="after")
    def _has_what_it_asks(self) -> Self:
        if self.without_logprobs == "quality" and self.quality is None:
            raise bad_value(
                '"without_logprobs: quality" needs a classifier', 'add "quality: DIR", from semroute train-checks'
            )
        return self


def _named(value: object) -> object:
    return {"use": value} if isinstance(value, str) else value


class TierConfig(Section):
    """One tier: a name alone is the model or group that it calls.

    Attributes:
        use: model or group.
        accept: in place of the cascade's own.
        quality: share of queries that it answers well, as far as is known; for ``value_per_quality``.
    """

    use: Name
    accept: Accept | None = None
    quality: Share | None = None


class CascadeConfig(Section):
    """Tiers that are tried until one's answer is accepted.

    Attributes:
        tiers: cheapest first; without any there is no cascade.
        accept: what an answer must be like.
        start: ``cheapest``, where the classifier or the judge have chosen a model this is called without a cascade; or
            ``decided``: what they have chosen is the tier to start at, unless it is none.
        stream_after_tokens: a tier whose first so many tokens are clearly confident is streamed from there on, and not
            left any more; None: an answer is checked whole before it is given out.
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


def no_cascade(value: object) -> object:
    """``cascade: false`` is a cascade without tiers."""
    return {} if value is False else value
