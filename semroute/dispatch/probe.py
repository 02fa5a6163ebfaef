"""One small call of every configured place, past the gates: is it there, how fast, and what can it do?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from semroute.catalog import model_card, price_of
from semroute.config import Config
from semroute.dispatch.clients import shared_client
from semroute.errors import DispatchError, EmptyAnswerError
from semroute.providers import ADAPTERS, CallTarget
from semroute.types import Request

QUESTION = Request(({"role": "user", "content": "Answer with the word OK."},), max_tokens=16)


@dataclass(frozen=True, slots=True)
class Probe:
    """What one call found.

    Attributes:
        deployment: its name.
        model: the logical model.
        credential: environment variable of the key that was used.
        latency_ms: time to the complete answer, or to the error.
        upstream_model: the name that it answered under; None where it did not answer.
        capabilities: what it is known to be able to do; None where the configuration does not say.
        has_price: whether its cost can be reckoned.
        error, error_kind: why it did not answer.
    """

    deployment: str
    model: str
    credential: str | None
    latency_ms: float
    upstream_model: str | None
    capabilities: tuple[str, ...] | None
    has_price: bool
    error: str | None = None
    error_kind: str | None = None


async def probe_all(
    config: Config, *, env: Mapping[str, str] = os.environ, client: httpx.AsyncClient | None = None
) -> list[Probe]:
    """Call every deployment with every one of its keys once, side by side; in the order of the file."""
    client = client or await shared_client()
    calls = [
        _probe(CallTarget(deployment, variable, env.get(variable or "", "").strip() or None), config, client)
        for deployment in config.deployments
        for variable in deployment.api_key_env or (None,)
    ]
    return await asyncio.gather(*calls)


async def _probe(target: CallTarget, config: Config, client: httpx.AsyncClient) -> Probe:
    deployment = target.deployment
    started = time.perf_counter()
    if target.credential is not None and target.key is None:
        return _result(
            target, config, 0.0, error=f"{target.credential} is not set: export it", kind="NoDeploymentError"
        )
    try:
        answer = await ADAPTERS[deployment.format].complete(client, target, QUESTION, within_s=deployment.timeout_s)
    except EmptyAnswerError as error:
        # A model that reasons spends the probe's few tokens on it: it is there, and answers.
        elapsed_ms = (time.perf_counter() - started) * 1000
        if error.finish_reason == "length":
            return _result(target, config, elapsed_ms, upstream_model=deployment.upstream)
        return _result(target, config, elapsed_ms, error=str(error), kind=type(error).__name__)
    except DispatchError as error:
        elapsed_ms = (time.perf_counter() - started) * 1000
        return _result(target, config, elapsed_ms, error=str(error), kind=type(error).__name__)
    elapsed_ms = (time.perf_counter() - started) * 1000
    return _result(target, config, elapsed_ms, upstream_model=answer.upstream_model)


def _result(
    target: CallTarget,
    config: Config,
    latency_ms: float,
    *,
    upstream_model: str | None = None,
    error: str | None = None,
    kind: str | None = None,
) -> Probe:
    deployment = target.deployment
    capabilities = model_card(deployment.model, config).capabilities
    return Probe(
        deployment=deployment.name,
        model=deployment.model,
        credential=target.credential,
        latency_ms=latency_ms,
        upstream_model=upstream_model,
        capabilities=None if capabilities is None else tuple(sorted(capabilities)),
        has_price=price_of(deployment, config) is not None,
        error=error,
        error_kind=kind,
    )
