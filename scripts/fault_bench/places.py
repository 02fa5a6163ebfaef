"""Providers of the scenarios, and the configurations that call them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from semroute.testing import FakeProvider, Reply, hang

KEY = "FAULT_BENCH_KEY"
"""One key for both providers: a rejection by one must not disable it for the other."""
FORMATS = ("openai", "anthropic", "gemini")
PRICE = {"input": 1.0, "output": 2.0}
_REDIRECT = {"location": "http://127.0.0.1:9/elsewhere", "content-type": "text/html"}

_ERRORS: Mapping[tuple[str, str], Mapping[str, object]] = {
    # The key has no access to this model: https://platform.openai.com/docs/guides/error-codes
    ("403", "openai"): {"code": "model_not_found", "type": "invalid_request_error", "message": "no access to bench"},
    ("403", "anthropic"): {"type": "permission_error", "message": "no access to bench"},
    ("403", "gemini"): {"code": 403, "status": "PERMISSION_DENIED", "message": "no access to bench"},
    # A limit of tokens a minute that Groq reports as 413: https://console.groq.com/docs/errors
    ("413", "openai"): {"code": "rate_limit_exceeded", "type": "tokens", "message": "Request too large for the TPM"},
    ("413", "anthropic"): {"type": "rate_limit_error", "message": "Request too large for the token limit"},
    ("413", "gemini"): {"code": 413, "status": "RESOURCE_EXHAUSTED", "message": "Request too large for the TPM"},
}


def outage_reply(fault: str, wire: str) -> Reply:
    """Return the reply of a provider during an outage.

    ``fault`` is ``307``, ``hang``, ``403`` or ``413``.
    """
    if fault == "hang":
        return hang()
    if fault == "307":
        return Reply(307, b"", _REDIRECT)
    error = _ERRORS[fault, wire]
    body = {"type": "error", "error": error} if wire == "anthropic" else {"error": error}
    return Reply(int(fault), json.dumps(body).encode())


def base_url(provider: FakeProvider, wire: str = "openai") -> str:
    """Return the address of a provider in a wire format."""
    return {"openai": provider.base_url, "anthropic": provider.anthropic_url, "gemini": provider.gemini_url}[wire]


def deployment(name: str, url: str, *, wire: str = "openai", model: str = "bench", **more: object) -> dict[str, Any]:
    """Return one deployment as in ``semroute.yaml``."""
    return {"name": name, "model": model, "format": wire, "base_url": url, "api_key_env": KEY, **more}


def config_of(*deployments: Mapping[str, Any], **sections: Any) -> dict[str, Any]:
    """Return a configuration of deployments and sections.

    Every model has a price.
    """
    models = {str(one["model"]): {"price": PRICE, "capabilities": ["logprobs"]} for one in deployments}
    return {"models": models, "fallback": {"models": list(models)[:1]}, "deployments": list(deployments), **sections}
