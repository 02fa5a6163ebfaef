"""A streamed answer in OpenAI's wire format, put together.

Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from semroute.providers.conversation.answers import merge_usage
from semroute.providers.openai import wire
from semroute.types import TokenLogprob, Usage


@dataclass(slots=True)
class _CallSoFar:
    index: int | None
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)
    extra_content: object = None


@dataclass(slots=True)
class Assembly:
    """What has arrived of an answer.

    Attributes:
        has_choice: whether any chunk was part of an answer.
        has_content: whether any text, refusal or tool call has arrived.
        finish_reason: the server's word for why the model stopped; None until it is known.
        upstream_model: name that the provider answers under.
        usage: the highest count of tokens so far.
        functions: names that the request gives to its tools.
        progress: number of chunks that brought the answer on: with text, reasoning, a tool call, or its end.
    """

    has_choice: bool = False
    has_content: bool = False
    finish_reason: str | None = None
    upstream_model: str | None = None
    usage: Usage | None = None
    progress: int = 0
    functions: frozenset[str] = frozenset()
    _texts: list[str] = field(default_factory=list)
    _refusals: list[str] = field(default_factory=list)
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    _calls: list[_CallSoFar] = field(default_factory=list)

    def add(self, chunk: wire.Chunk) -> str:
        """Take one chunk in, and return the text that it brings."""
        self.upstream_model = chunk.model or self.upstream_model
        self.usage = merge_usage(self.usage, wire.usage(chunk.usage))
        return "".join(self._take(choice) for choice in chunk.choices or () if choice.index == 0)

    def answer(self) -> wire.OpenAIChoice:
        """The choice as it would have come whole."""
        calls = [
            wire.OpenAICall(
                id=call.id,
                function=wire.Function(name=call.name, arguments="".join(call.arguments)),
                extra_content=call.extra_content,
            )
            for call in self._calls
        ]
        text, refusal = "".join(self._texts), "".join(self._refusals)
        message = wire.OpenAIMessage(content=text, refusal=refusal or None, tool_calls=calls or None)
        return wire.OpenAIChoice(message=message, finish_reason=self.finish_reason)

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Of all tokens so far."""
        return tuple(self._logprobs)

    def logprobs_since(self, start: int) -> tuple[TokenLogprob, ...]:
        """Of the tokens from the ``start``-th on."""
        return tuple(self._logprobs[start:])

    def _take(self, choice: wire.ChunkChoice) -> str:
        self.has_choice = True
        self.finish_reason = choice.finish_reason or self.finish_reason
        self._logprobs += wire.logprobs(choice.logprobs)
        self.progress += bool(choice.finish_reason)
        delta = choice.delta
        if delta is None:
            return ""
        text = wire.text(delta.content)
        if text:
            self._texts.append(text)
        if delta.refusal:
            self._refusals.append(delta.refusal)
        for piece in delta.tool_calls or ():
            self._add_call(piece)
        has_content = bool(text or delta.refusal or delta.tool_calls)
        self.has_content = self.has_content or has_content
        thinks = delta.content or delta.reasoning_content or delta.reasoning or delta.reasoning_details
        self.progress += has_content or bool(thinks)
        return text

    def _add_call(self, piece: wire.OpenAICall) -> None:
        same = [call for call in self._calls if piece.index is None or call.index == piece.index]
        call = same[-1] if same else None
        if call is None or self._begins(piece, call):
            call = _CallSoFar(piece.index)
            self._calls.append(call)
        call.id = call.id or piece.id
        call.extra_content = call.extra_content or piece.extra_content
        call.name = self._name(call.name or "", piece.function.name or "")
        call.arguments.append(wire.as_text(piece.function.arguments))

    def _begins(self, piece: wire.OpenAICall, last: _CallSoFar) -> bool:
        """Return whether a piece begins another call than the last one of its index.

        Some servers number every call 0, or none, and give no ids. Then a name begins a call, unless the last one's
        arguments have begun and are not whole (the name is repeated with every piece), or the name goes on.
        """
        name, before = piece.function.name, last.name
        if not name or not before:
            return False
        if piece.id and last.id:
            return piece.id != last.id
        arguments = "".join(last.arguments)
        if arguments.strip():
            return name != before or is_json(arguments)
        if name == before or any(function.startswith(before + name) for function in self.functions):
            return False
        return not self.functions.isdisjoint((name, before)) or bool(wire.as_text(piece.function.arguments))

    def _name(self, before: str, piece: str) -> str:
        """Return a name with its next piece; some servers send the name, or all there is of it, again."""
        if before + piece in self.functions:
            return before + piece
        if piece == before or (piece.startswith(before) and piece in self.functions):
            return piece
        return before if before in self.functions else before + piece


def is_json(text: str) -> bool:
    """Return whether a text is whole JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
