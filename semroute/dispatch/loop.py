"""The one loop of a call: choose a deployment, attempt it, record the attempt."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import httpx

from semroute.config import Config, Deployment
from semroute.dispatch.clients import shared_client
from semroute.errors import NoDeploymentError
from semroute.providers import COMPLETE
from semroute.types import Attempt, Completion, Request


async def complete(
    request: Request,
    candidates: Sequence[str],
    config: Config,
    *,
    client: httpx.AsyncClient | None = None,
    env: Mapping[str, str] = os.environ,
) -> Completion:
    """Ask the first candidate model that can be called.

    Args:
        request: what to ask.
        candidates: logical models, in the order in which they are to be tried.
        config: where models can be called.
        client: the HTTP client; None uses one that is shared by all calls on this event loop.
        env: where keys are read, at each call.

    Raises:
        NoDeploymentError: no candidate has a deployment, or the deployment's key is not set.
        DispatchError: the call failed; :mod:`semroute.errors` lists the subclasses.
    """
    deployment = choose(candidates, config)
    key = read_key(deployment, env)
    answer = await COMPLETE[deployment.format](client or await shared_client(), deployment, request, key=key)
    attempt = Attempt(deployment.name, deployment.model, answer.latency_ms, status=200)
    return replace(answer, attempts=(attempt,))


def choose(candidates: Sequence[str], config: Config) -> Deployment:
    """The first deployment of the first candidate that has one.

    Raises:
        NoDeploymentError: none has one.
    """
    for model in candidates:
        for deployment in config.deployments_of(model):
            return deployment
    if not candidates:
        raise NoDeploymentError("no model to call: the category and the fallback name none")
    wanted = ", ".join(f'"{model}"' for model in candidates)
    raise NoDeploymentError(
        f"no deployment of {wanted}: add one under deployments in semroute.yaml "
        f'(name, model: {candidates[0]}, base_url, api_key_env); "semroute init" writes a file to start from'
    )


def read_key(deployment: Deployment, env: Mapping[str, str]) -> str | None:
    """The deployment's key from the environment; None when it needs none.

    Raises:
        NoDeploymentError: the variable is not set, or blank.
    """
    if not deployment.api_key_env:
        return None
    key = env.get(deployment.api_key_env[0], "").strip()
    if not key:
        message = f"{deployment.name} needs a key: export {deployment.api_key_env[0]} (deployments, api_key_env)"
        raise NoDeploymentError(message, deployment=deployment.name)
    return key
