"""Interface of the provider adapters, and adapters of plugins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from functools import lru_cache
from typing import Protocol

import httpx

from semroute.errors import DispatchError, MalformedResponseError, ProviderTimeoutError, UnavailableError
from semroute.plugins import Plugin, make, said
from semroute.providers.streaming import CallClock, Within
from semroute.providers.target import CallTarget
from semroute.types import Completion, Delta, Request


class Adapter(Protocol):
    """Adapter of one wire format.

    Both calls raise a :class:`~semroute.errors.DispatchError` subclass by the kind of failure, with the provider's
    retry hint in ``wait_s``. ``within_s`` is the request's remaining time, seconds, or the call's clock; the
    deployment's ``timeout_s`` bounds the whole call too, its ``timeouts`` bound connection, first token and idle time.
    """

    async def complete(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> Completion:
        """Return the whole answer; the caller fills in ``cost`` and ``attempts``."""
        ...

    def stream(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> AsyncGenerator[Delta | Completion]:
        """Stream the answer: deltas, then one completion.

        The deltas carry text, fragments of tool calls, and reasoning, which may come without an answer after it.
        Closing the generator closes the connection.
        """
        ...


class AdapterFactory(Protocol):
    """Factory of an adapter: class or function of a package or a program.

    A package names it by an entry point of the group ``semroute.providers``; a program hands it in as ``providers={
    "name": factory}``. A deployment uses it by ``format: name``. The factory may have four attributes:

    * ``Options``: pydantic model of the deployment's ``options``, which the adapter finds validated in
      ``target.deployment.options``; they are None without it.
    * ``base_url``: the address where the deployment names none.
    * ``api_key_env``: the variable of the key where the deployment names none; the key is ``target.key``.
    * ``lacks``: names of capabilities and parameters that requests must not have here, such as ``tools``, ``vision``,
      ``logprobs``, ``top_k`` or ``seed``: a request that needs one goes to another deployment.

    It is called once in a process, and must not call the network.
    """

    def __call__(self) -> Adapter:
        """Return the adapter, safe to share between requests and event loops."""
        ...


# Adapters of plugins: what they raise is reported like other failures of an endpoint.

GRACE_S = 0.5
"""Time beyond a call's limits after which an adapter that does not keep them is cancelled, seconds."""


@lru_cache(maxsize=64)
def plugin_adapter(plugin: Plugin) -> Adapter:
    """Return the adapter of a plugin, made once.

    Raises:
        PluginError: it cannot be made, or is no adapter.
    """
    return PluginAdapter(plugin, make(plugin, needs={"complete": None, "stream": None}))


class PluginAdapter:
    """Adapter of a plugin, whose errors become failures of the endpoint.

    A plugin may raise a :class:`~semroute.errors.DispatchError`, which passes. Errors of httpx are those of the
    connection; anything else is a malformed response, so that another endpoint is tried. An adapter that overlooks the
    limits of the call is cancelled.

    Args:
        plugin: named in messages.
        adapter: the plugin's own.
    """

    def __init__(self, plugin: Plugin, adapter: Adapter) -> None:
        self._plugin = plugin
        self._adapter = adapter

    async def complete(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> Completion:
        """Return the plugin's completion."""
        clock = CallClock.of(within_s)
        with self._reported(target):
            async with asyncio.timeout(_most_s(target, clock)):
                answer = await self._adapter.complete(client, target, request, within_s=clock)
            return self._checked(answer, target)

    async def stream(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> AsyncGenerator[Delta | Completion]:
        """Yield the plugin's deltas, then its completion."""
        clock = CallClock.of(within_s)
        answer: object = None
        with self._reported(target):
            async with aclosing(self._adapter.stream(client, target, request, within_s=clock)) as events:
                while True:
                    async with asyncio.timeout(_most_s(target, clock)):
                        event = await anext(events, None)
                    if event is None or isinstance(event, Completion):
                        answer = event
                        break
                    clock.begin()
                    with clock.paused():
                        yield event
        yield self._checked(answer, target)

    def _checked(self, answer: object, target: CallTarget) -> Completion:
        if isinstance(answer, Completion):
            return answer
        name, what = target.deployment.name, type(answer).__name__
        message = f"{name}: {self._plugin} gives a {what} where a completion is due"
        raise MalformedResponseError(message, deployment=name)

    @contextmanager
    def _reported(self, target: CallTarget) -> Iterator[None]:
        name = target.deployment.name
        try:
            yield
        except DispatchError:
            raise
        except (TimeoutError, httpx.TimeoutException) as error:
            raise ProviderTimeoutError(f"{name}: no answer in time", deployment=name) from error
        except httpx.HTTPError as error:
            # The message of an HTTP error may repeat the address or a header with the key.
            raise UnavailableError(f"{name}: no connection ({type(error).__name__})", deployment=name) from error
        except Exception as error:
            words = _without(said(error), target.key)
            raise MalformedResponseError(f"{name}: {self._plugin} failed: {words}", deployment=name) from error


def _most_s(target: CallTarget, clock: CallClock) -> float:
    left_s = clock.ends_at() - asyncio.get_running_loop().time()
    return max(min(left_s, target.deployment.timeout_s), 0.0) + GRACE_S


def _without(words: str, secret: str | None) -> str:
    return words.replace(secret, "[key]") if secret else words
