"""Anthropic's content blocks in OpenAI's shape: calls, results, images.

Source: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_BLOCKS = frozenset({"tool_use", "tool_result", "image"})


def has_blocks(message: Mapping[str, Any]) -> bool:
    """Return True if a message has content blocks of Anthropic's own shape.

    OpenAI's format has their content in another one.
    """
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return False
    return any(isinstance(part, dict) and part.get("type") in _BLOCKS for part in content)


def openai_messages(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the messages in OpenAI's shape for one of Anthropic's.

    Calls stand beside the content, and results are messages of their own. Blocks in a shape that Anthropic does not
    define are left as they are; the wire format refuses them.
    """
    role = message.get("role")
    kept: list[object] = []
    calls: list[object] = [*(message.get("tool_calls") or ())]
    for part in message["content"]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "tool_use" and role == "assistant" and _is_call(part):
            calls.append(_call(part))
        elif kind == "tool_result" and role == "user" and isinstance(part.get("tool_use_id"), str):
            if kept:
                yield {**message, "content": kept}
                kept = []
            yield _result(part)
        else:
            kept.append(_image(part))
    if kept or calls:
        yield {**message, "content": kept or None, **({"tool_calls": calls} if calls else {})}


def _is_call(block: Mapping[str, Any]) -> bool:
    return isinstance(block.get("name"), str) and isinstance(block.get("input"), dict)


def _call(block: Mapping[str, Any]) -> dict[str, object]:
    function = {"name": block["name"], "arguments": json.dumps(block["input"], ensure_ascii=False)}
    return {"id": block.get("id"), "type": "function", "function": function}


def _result(block: Mapping[str, Any]) -> dict[str, object]:
    content = block.get("content")
    if isinstance(content, list | tuple):
        content = [_image(part) for part in content]
    more = {name: block[name] for name in ("cache_control", "is_error") if block.get(name)}
    return {"role": "tool", "tool_call_id": block["tool_use_id"], "content": "" if content is None else content, **more}


def _image(part: Any) -> Any:
    """Return an image as a part of OpenAI's; another part as it is."""
    source = part.get("source") if isinstance(part, dict) and part.get("type") == "image" else None
    if not isinstance(source, Mapping):
        return part
    url = source.get("url")
    if source.get("type") == "base64":
        url = f"data:{source.get('media_type')};base64,{source.get('data')}"
    marker = {"cache_control": part["cache_control"]} if part.get("cache_control") else {}
    return {"type": "image_url", "image_url": {"url": url}, **marker} if isinstance(url, str) else part
