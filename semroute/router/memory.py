"""Index in memory, built from a program's own examples.

Nothing is written to the user's folder: the files of the built-in encoder lie in a temporary folder, which ends with
the router.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from semroute.config import Config
from semroute.config.conflicts import conflicts
from semroute.config.schema import Fallback
from semroute.data.categories import FEW_EXAMPLES
from semroute.data.examples import Category, CategorySet, Finding, LabelledQuery, shortened
from semroute.data.rows import usable
from semroute.encoders.registry import OWN_KINDS
from semroute.errors import ConfigError, EncoderError, InputError
from semroute.router.load import LoadedIndex, try_encoder
from semroute.text.names import known_names, name_problem, normalize_name
from semroute.types import Encoder
from semroute.types.protocols import Progress, silent

ExampleTexts: TypeAlias = Mapping[str, Sequence[str]]
"""Example queries of each category."""
ModelNames: TypeAlias = str | Sequence[str]
"""A model or group, or several, cheapest first."""
LabelledTexts: TypeAlias = Sequence[tuple[str, str | None]]
"""Queries with their category; None for one that is out of scope."""

log = logging.getLogger("semroute")


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Index in memory, its configuration with a fallback, and its resources."""

    live: LoadedIndex
    config: Config
    closers: list[Callable[[], object]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Input of an in-memory index.

    See :meth:`semroute.Router.from_examples`.
    """

    examples: ExampleTexts
    models: Mapping[str, ModelNames] | None
    fallback: ModelNames | None
    validation: LabelledTexts | None
    encoder: Encoder | None
    background: bool = True


def build_live(
    source: MemorySource, config: Config, env: Mapping[str, str] = os.environ, progress: Progress = silent
) -> MemoryParts:
    """Check the input, build an index from it in memory, and open it.

    Args:
        source: examples, models and encoder.
        config: overrides of the categories, fallback, and the encoder where ``source`` has none.
        env: environment that holds the key of a remote encoder.
        progress: called with a step's name, the number done and the total.

    Raises:
        InputError, ConfigError, EncoderError, MissingExtraError: as :meth:`semroute.Router.from_examples`.
    """
    config = config if source.fallback is None else _with_fallback(config, source.fallback)
    read = category_set(source.examples, source.models, config)
    validation = None if source.validation is None else _labelled(source.validation, read)
    from semroute.learn.build import build_in_memory

    encoder, closers = _encoder(source.encoder, config, env)
    try:
        built = build_in_memory(
            read, encoder, validation=validation, config=config, background=source.background, progress=progress
        )
        live = LoadedIndex.of(built.artifact, encoder, built.scorer, None, config)
    except BaseException:
        for close in closers:
            close()
        raise
    for finding in built.findings:
        log.info("%s", finding)
    return MemoryParts(live, config, closers)


def category_set(examples: ExampleTexts, models: Mapping[str, ModelNames] | None, config: Config) -> CategorySet:
    """Return the checked categories, sorted by name.

    Raises:
        InputError: the message names the place, such as ``examples["code"][3]``.
    """
    if not isinstance(examples, Mapping):
        raise InputError(f"examples: {_shape()} is needed, not {type(examples).__name__}")
    if not examples:
        raise InputError(f"examples: there are no categories; give {_shape()}")
    texts: dict[str, tuple[str, ...]] = {}
    for given, queries in examples.items():
        problem = "a category's name is text" if not isinstance(given, str) else name_problem(given)
        if problem is not None:
            raise InputError(f"examples: {problem}, not {_shown(given)}")
        name = normalize_name(given)
        if name in texts:
            raise InputError(
                f'examples: the category "{name}" is there twice, in two forms of Unicode; put both in one'
            )
        texts[name] = _texts(queries, f"examples[{_shown(name)}]")
    named = _models(models or {}, texts, config)
    categories = (Category(name, "", named.get(name, ()), texts[name]) for name in sorted(texts))
    few = [
        Finding(f'the category "{name}" has {len(found)} examples; give it at least {FEW_EXAMPLES}')
        for name, found in texts.items()
        if len(found) < FEW_EXAMPLES
    ]
    return CategorySet(tuple(categories), tuple(few))


def _shape() -> str:
    return 'a mapping from each category to its example queries, such as {"code": ["fix this loop", …], …}'


def _texts(queries: object, where: str) -> tuple[str, ...]:
    """Return stripped texts, each once."""
    if isinstance(queries, str | bytes) or not isinstance(queries, Sequence):
        kind = "one string" if isinstance(queries, str) else type(queries).__name__
        raise InputError(f"{where}: a list of example queries is needed, not {kind}")
    if not queries:
        raise InputError(f"{where}: the category has no examples; give it at least {FEW_EXAMPLES}, or remove it")
    return tuple(dict.fromkeys(_text(query, f"{where}[{place}]") for place, query in enumerate(queries)))


def _text(query: object, where: str) -> str:
    if not isinstance(query, str):
        raise InputError(f"{where}: an example query is text, not {type(query).__name__}")

    def refuse(message: str, line: int | None) -> None:
        raise InputError(message)

    text = usable(query, where, 0, refuse)
    assert text is not None  # else it was refused
    return text


def _models(models: Mapping[str, ModelNames], texts: ExampleTexts, config: Config) -> dict[str, tuple[str, ...]]:
    """Return the models of each category that ``models`` names.

    Raises:
        InputError: a category is unknown, or has no models here nor in the configuration.
    """
    if not isinstance(models, Mapping):
        raise InputError(
            f'models: a mapping from each category to its models, such as {{"code": "coder"}}, is needed, not '
            f"{type(models).__name__}"
        )
    named = {}
    for category, names in models.items():
        known = normalize_name(category) if isinstance(category, str) else category
        if known not in texts:
            listed = known_names(str(category), texts, "there are")
            raise InputError(f"models: {_shown(category)} has no examples; {listed}")
        named[known] = _names(names, f"models[{_shown(category)}]")
    for name in texts:
        override = config.categories.get(name)
        if name not in named and not (override and override.models):
            shown = _shown(name)
            raise InputError(
                f'models: the category {shown} has no model; name one, such as models={{{shown}: "small"}}, or write '
                f"categories: {{{shown}: {{models: [small]}}}} in the configuration"
            )
    return named


def _names(names: object, where: str) -> tuple[str, ...]:
    """Return one or several names of models as a tuple."""
    found = (names,) if isinstance(names, str) else names
    if not isinstance(found, Sequence) or isinstance(found, bytes):
        raise InputError(f"{where}: the name of a model, or a list of names, is needed, not {type(names).__name__}")
    try:
        return Fallback.model_validate({"models": list(found)}).models
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"{where}: {problem['msg']}") from None


def _with_fallback(config: Config, fallback: ModelNames) -> Config:
    models = _names(fallback, "fallback")
    config = config.model_copy(update={"fallback": Fallback.model_validate({"models": list(models)})})
    problems = conflicts(config.model_dump())
    if problems:
        raise ConfigError(problems[0].text, key=problems[0].key)
    return config


def _labelled(rows: LabelledTexts, read: CategorySet) -> list[LabelledQuery]:
    names = [category.name for category in read.categories]
    labelled = []
    if isinstance(rows, str | bytes) or not isinstance(rows, Sequence) or not rows:
        raise InputError('validation: a list of pairs, such as [("fix my loop", "code"), ("hello", None)], is needed')
    for place, row in enumerate(rows):
        where = f"validation[{place}]"
        if isinstance(row, str) or not isinstance(row, Sequence) or len(row) != 2:
            raise InputError(f"{where}: a pair of a query and its category is needed; None stands for out of scope")
        query, category = row
        if isinstance(category, str) and normalize_name(category) in names:
            category = normalize_name(category)
        elif category is not None:
            listed = known_names(str(category), names, "there are")
            raise InputError(f"{where}: {_shown(category)} is not a category; {listed}")
        labelled.append(LabelledQuery(_text(query, where), category))
    return labelled


def _encoder(
    given: Encoder | None, config: Config, env: Mapping[str, str]
) -> tuple[Encoder, list[Callable[[], object]]]:
    """Return the encoder and its closer; one handed in is left open."""
    if given is not None:
        _check_given(given)
        return given, []
    from semroute.learn.build import EncoderChoice, make_encoder

    choice = EncoderChoice.for_index(config)
    if choice.kind not in OWN_KINDS:
        encoder = make_encoder(choice, Path(), env)
        close = getattr(encoder, "close", None)
        return encoder, [close] if callable(close) else []
    # The files are read again in a forked child, so that they stay as long as the encoder.
    folder = Path(tempfile.mkdtemp(prefix="semroute-"))
    try:
        encoder = make_encoder(choice, folder, env)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return encoder, [weakref.finalize(encoder, _remove, folder, os.getpid())]


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # a forked child leaves its parent's files alone
        shutil.rmtree(folder, ignore_errors=True)


def _check_given(encoder: object) -> None:
    if not isinstance(encoder, Encoder):
        raise InputError(
            f"encoder: an object with name, fingerprint, dimensions and encode(texts) is needed, not "
            f"{type(encoder).__name__}"
        )
    try:
        try_encoder(encoder)
    except (ValueError, TypeError, AttributeError) as error:
        raise EncoderError(f"encoder: {error}; encode(texts) returns (n, dimensions) float32 unit rows") from error


def _shown(value: object) -> str:
    return shortened(value) if isinstance(value, str) else ascii(value)[:40]
