"""Messages for servers of OpenAI's wire format, which refuse fields that they do not know.

What a model answered comes back with the next request, and with it whatever its vendor added: ``annotations``,
``reasoning_content``, ``extra_content``, ``index`` of a streamed call. Groq, Mistral, Cerebras and others answer 400 to
any of these, so an assistant's message keeps the fields that the format defines and those that the vendor's row, or the
deployment, names. Source: https://platform.openai.com/docs/api-reference/chat/create; a refused field:
https://github.com/janhq/jan/issues/8136.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_ASSISTANT = frozenset({"role", "content", "name", "tool_calls"})
_CALL = frozenset({"id", "type", "function", "custom"})
_FUNCTION = frozenset({"name", "arguments"})
_REASONING_PARTS = frozenset({"thinking", "redacted_thinking", "reasoning"})
_PART = frozenset({"type", "text", "refusal"})


class MessageWriter:
    """Writes messages for one vendor.

    Args:
        fields: fields of an assistant's message, beyond the format's own, that the vendor reads.
        with_cache: whether it reads ``cache_control``.
    """

    def __init__(self, fields: frozenset[str], *, with_cache: bool) -> None:
        self._fields = fields
        self._with_cache = with_cache

    def write(self, message: Mapping[str, object]) -> dict[str, object]:
        """Return a message as the vendor takes it."""
        written = dict(message) if self._with_cache else _uncached(message)
        if written.get("role") != "assistant":
            return written
        known = _ASSISTANT | self._fields | ({"cache_control"} if self._with_cache else set())
        kept = {name: value for name, value in written.items() if name in known and (value or name == "content")}
        if not isinstance(kept.get("content", ""), str | None):
            kept["content"] = self._parts(kept["content"])
        if isinstance(audio := kept.pop("audio", None), Mapping) and "id" in audio:
            kept["audio"] = {"id": audio["id"]}  # of an answer in sound, the name is taken back and not the sound
        if "tool_calls" in kept and isinstance(kept["tool_calls"], list | tuple):
            kept["tool_calls"] = [self._call(call) for call in kept["tool_calls"]]
        refusal = written.get("refusal")
        if refusal and "refusal" not in kept and not kept.get("content"):
            kept["content"] = refusal  # the words of a model that refused, where there is no field for them
        return kept

    def _parts(self, content: object) -> object:
        if not isinstance(content, Sequence):
            return content
        kept = []
        for part in content:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind in _REASONING_PARTS and kind not in self._fields:
                continue
            if isinstance(part, Mapping) and kind in ("text", "refusal"):
                known = _PART | ({"cache_control"} if self._with_cache else set())
                part = {name: value for name, value in part.items() if name in known}
            kept.append(part)
        return kept or ""

    def _call(self, call: object) -> object:
        if not isinstance(call, Mapping):
            return call
        kept = {name: value for name, value in call.items() if name in _CALL | (self._fields & {"extra_content"})}
        function = kept.get("function")
        if isinstance(function, Mapping):
            kept.setdefault("type", "function")
            kept["function"] = {name: value for name, value in function.items() if name in _FUNCTION}
        return kept


def _uncached(message: Mapping[str, object]) -> dict[str, object]:
    written = {name: value for name, value in message.items() if name != "cache_control"}
    content = written.get("content")
    if isinstance(content, list | tuple):
        written["content"] = [
            {name: value for name, value in part.items() if name != "cache_control"}
            if isinstance(part, Mapping)
            else part
            for part in content
        ]
    return written
