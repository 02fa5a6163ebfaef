from __future__ import annotations

import pytest

from semroute.config import Deployment
from semroute.errors import CapabilityError
from semroute.providers import CallTarget
from semroute.providers.messages import lacks
from semroute.providers.openai import payload
from semroute.types import Request, Tool

EVERYTHING = Request(
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},),
    tools=(Tool("add"),),
    json_schema={"type": "object"},
    logprobs=True,
)
TEXT = Request(({"role": "user", "content": "hello"},))


def target(provider: str) -> CallTarget:
    return CallTarget(Deployment.model_validate({"name": "spot", "model": "m", "provider": provider}))


def test_what_the_vendors_row_lacks_is_told_where_it_is_asked_for() -> None:
    assert lacks(target("openai"), EVERYTHING) == ()
    assert lacks(target("ollama"), EVERYTHING) == ("logprobs",)
    assert lacks(target("anthropic"), EVERYTHING) == ("logprobs",)
    assert lacks(target("ollama"), TEXT) == ()


def test_it_is_never_dropped_from_the_body_in_silence() -> None:
    with pytest.raises(CapabilityError, match="logprobs"):
        payload(target("ollama"), EVERYTHING)
