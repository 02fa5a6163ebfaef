"""What an agent's request through the gateway leaves in the log: the signals of its tools, and its effort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from server.conftest import Served

from semroute.testing import answer

pytestmark = pytest.mark.slow

ASK = "fix the failing test of the parser"
CALLS = 3
OPENAI: dict[str, Any] = {
    "model": "small",
    "reasoning_effort": "high",
    "tools": [{"type": "function", "function": {"name": "run", "parameters": {"type": "object"}}}],
    "messages": [
        {"role": "user", "content": ASK},
        *(
            message
            for number in range(CALLS)
            for message in (
                {"role": "assistant", "tool_calls": [
                    {"id": f"c{number}", "type": "function", "function": {"name": "run", "arguments": "{}"}}
                ]},
                {"role": "tool", "tool_call_id": f"c{number}", "content": "Error: it failed"},
            )
        ),
    ],
}  # fmt: skip
ANTHROPIC: dict[str, Any] = {
    "model": "small",
    "max_tokens": 100,
    "output_config": {"effort": "high"},
    "tools": [{"name": "run", "input_schema": {"type": "object"}}],
    "messages": [
        {"role": "user", "content": ASK},
        *(
            message
            for number in range(CALLS)
            for message in (
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": f"c{number}", "name": "run", "input": {}}
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": f"c{number}", "content": "it failed", "is_error": True}
                ]},
            )
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", OPENAI), ("/v1/messages", ANTHROPIC)])
@pytest.mark.parametrize("format", ["openai", "anthropic"])
def test_a_stuck_agent_is_logged_alike_in_every_format(
    serve: Callable[..., Served], path: str, body: dict[str, Any], format: str
) -> None:
    served = serve(format)
    served.provider.always(answer("Done."))
    assert httpx.post(f"{served.url}{path}", json=body, timeout=60).status_code == 200
    once = {**body, "messages": body["messages"][:1]}
    assert httpx.post(f"{served.url}{path}", json=once, timeout=60).status_code == 200
    log: Any = served.router.log
    assert log.flush()
    stuck, single = log.outcomes()
    assert stuck.signals == {"turns": 1, "tool_loop": 3, "tool_errors": 3, "repeated_calls": 3, "repeated_errors": 3}
    assert single.signals == {}
    assert [one.calls[-1].effort for one in (stuck, single)] == ["high", "high"]
