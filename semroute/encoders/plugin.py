"""Encoders of plugins, opened by ``name:argument``.

An index only records which encoder it was built with. It is opened where the configuration names the same, since a
plugin is a program of another package (:mod:`semroute.encoders.registry`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from semroute.config.extensions import BUILT_IN, listed_names
from semroute.errors import EncoderError, PluginError, SemrouteError
from semroute.plugins import Plugin, Plugins, group_of, make, said
from semroute.text.names import did_you_mean
from semroute.types import Encoder, Matrix

UNIT_TOLERANCE = 1e-2
"""Largest deviation of a vector's length from 1."""


class EncoderFactory(Protocol):
    """Factory of an encoder: class or function of a package or a program.

    A package names it by an entry point of the group ``semroute.encoders``; a program hands it in as ``encoders={
    "name": factory}``. ``encoder: "name:argument"`` in the configuration, or ``--encoder name:argument`` of ``semroute
    build-index``, uses it.

    The encoder has ``name``, ``fingerprint``, ``dimensions`` and ``encode`` (:class:`~semroute.types.Encoder`). Its
    ``fingerprint`` must be the same wherever the same text gets the same vector, and another one wherever it could not:
    an index serves only with the encoder that has the fingerprint of its builder.
    """

    def __call__(self, argument: str, /) -> Encoder:
        """Return the encoder, safe to share between threads.

        The argument is what follows the first colon; "" where there is none.
        """
        ...


class PluginEncoder:
    """Encoder of a plugin.

    What it raises, and vectors that are none, become an :class:`~semroute.errors.EncoderError`. Opened by
    :func:`open_plugin_encoder`.

    Args:
        spec: ``name:argument``, as the configuration has it.
        plugin: named in messages.
        encoder: the plugin's own.

    Attributes:
        spec: see above.
        package: name and version of the distribution; "" where it was handed in.
    """

    def __init__(self, spec: str, plugin: Plugin, encoder: Encoder) -> None:
        self.spec = spec
        self.package = plugin.distribution
        self._plugin = plugin
        self._encoder = encoder
        self.name, self.fingerprint, self.dimensions = encoder.name, encoder.fingerprint, encoder.dimensions
        self.waits = bool(getattr(encoder, "waits", True))
        if self.dimensions < 1:
            raise plugin.error(f"has {self.dimensions} dimensions: at least 1 is needed")

    def __repr__(self) -> str:
        return f"PluginEncoder({self.spec!r})"

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``; ``(len(texts), dimensions)`` float32, unit rows.

        Raises:
            EncoderError: the plugin failed, or gave something else.
            TypeError: ``texts`` is one string.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings, not one string")
        try:
            vectors = self._encoder.encode(list(texts))
        except SemrouteError:
            raise
        except Exception as error:
            raise EncoderError(f"{self._plugin} failed: {said(error)}; {self._plugin.fix}") from error
        shape = (len(texts), self.dimensions)
        if not isinstance(vectors, np.ndarray) or vectors.shape != shape or vectors.dtype != np.float32:
            got = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
            raise EncoderError(f"{self._plugin} gives {got} where float32 {shape} is due; {self._plugin.fix}")
        lengths = np.einsum("ij,ij->i", vectors, vectors)
        if not (np.abs(lengths - 1.0) <= 2 * UNIT_TOLERANCE).all():  # so that NaN is refused too
            raise EncoderError(f"{self._plugin} gives vectors that are not of unit length; {self._plugin.fix}")
        return vectors

    def close(self) -> None:
        """Close the plugin's encoder, if it can be closed."""
        close = getattr(self._encoder, "close", None)
        if callable(close):
            close()


def open_plugin_encoder(spec: str, plugins: Plugins, *, built_by: str = "") -> PluginEncoder:
    """Open the encoder of a plugin.

    Args:
        spec: ``name:argument``; the argument, and its colon, may be missing.
        plugins: plugins that may be named.
        built_by: distribution that the index was built with, for the message where it is not installed.

    Raises:
        EncoderError: no plugin has the name.
        PluginError: it cannot be imported or made, or is no encoder.
    """
    name, _, argument = spec.partition(":")
    plugin = plugins.find("encoders", name)
    if plugin is None:
        raise EncoderError(unknown_encoder(name, plugins, built_by))
    needs = {"name": str, "fingerprint": str, "dimensions": int, "encode": None}
    return PluginEncoder(spec, plugin, make(plugin, argument, needs=needs))


def unknown_encoder(name: str, plugins: Plugins, built_by: str = "") -> str:
    """Return the message for an encoder that is not installed."""
    kinds, more = [kind for kind in BUILT_IN["encoders"] if kind != "plugin"], plugins.names("encoders")
    group = f'by an entry point of the group "{group_of("encoders")}"'
    if built_by:
        found = f'the encoder "{name}" is not installed'
        return f"{found}: install the package that provides it {group}, which was {built_by} when the index was built"
    added = f"; plugins add {listed_names(more)}" if more else "; no plugin adds one"
    meant = did_you_mean(name, {*kinds, *more})
    fix = f"install the package that provides it {group}"
    fix = f"{meant} Else {fix}" if meant else fix
    return f'no encoder is named "{name}": built in are {", ".join(kinds)}{added}; {fix}'


def check_encoder(spec: str, plugins: Plugins) -> str | None:
    """Return the problem of a configured plugin encoder; None if it is usable.

    It is imported, but not made: that may take long.
    """
    name = spec.partition(":")[0]
    try:
        plugin = plugins.find("encoders", name)
        if plugin is None:
            return unknown_encoder(name, plugins)
        factory = plugin.load()
        if not callable(factory):
            raise plugin.error(f"is a {type(factory).__name__}, and not a class or function that can be called")
    except PluginError as error:
        return str(error)
    return None
