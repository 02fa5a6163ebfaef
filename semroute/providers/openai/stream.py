"""A streamed answer in OpenAI's wire format, put together.

Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from dataclasses import dataclass, field

from semroute.providers.openai import wire
from semroute.types import TokenLogprob, Usage


@dataclass(slots=True)
class _CallSoFar:
    index: int | None
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Assembly:
    """What has arrived of an answer.

    Attributes:
        has_choice: whether any chunk was part of an answer.
        has_content: whether any text, refusal or tool call has arrived.
        finish_reason: the server's word for why the model stopped; None until it is known.
        upstream_model: name that the provider answers under.
        usage: the latest count of tokens.
    """

    has_choice: bool = False
    has_content: bool = False
    finish_reason: str | None = None
    upstream_model: str | None = None
    usage: Usage | None = None
    _texts: list[str] = field(default_factory=list)
    _refusals: list[str] = field(default_factory=list)
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    _calls: list[_CallSoFar] = field(default_factory=list)

    def add(self, chunk: wire.Chunk) -> str:
        """Take one chunk in, and return the text that it brings."""
        self.upstream_model = chunk.model or self.upstream_model
        self.usage = wire.usage(chunk.usage) or self.usage
        return "".join(self._take(choice) for choice in chunk.choices or () if choice.index == 0)

    def answer(self) -> wire.Choice:
        """The choice as it would have come whole."""
        calls = [
            wire.Call(id=call.id, function=wire.Function(name=call.name, arguments="".join(call.arguments)))
            for call in self._calls
        ]
        text, refusal = "".join(self._texts), "".join(self._refusals)
        message = wire.Message(content=text, refusal=refusal or None, tool_calls=calls or None)
        return wire.Choice(message=message, finish_reason=self.finish_reason)

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
        delta = choice.delta
        if delta is None:
            return ""
        text = wire.text(delta.content)
        if text:
            self._texts.append(text)
        if delta.refusal:
            self._refusals.append(delta.refusal)
        for piece in delta.tool_calls or ():
            self._call_of(piece)
        self.has_content = self.has_content or bool(text or delta.refusal or delta.tool_calls)
        return text

    def _call_of(self, piece: wire.Call) -> None:
        call = self._find(piece)
        if call is None:
            call = _CallSoFar(piece.index)
            self._calls.append(call)
        call.id = call.id or piece.id
        call.name = call.name or piece.function.name
        call.arguments.append(wire.as_text(piece.function.arguments))

    def _find(self, piece: wire.Call) -> _CallSoFar | None:
        """The call that a piece belongs to: the last of its index, or the last of all where it has none.

        Some servers number every call 0, or none; a piece with another id and a name then begins another call.
        """
        same = [call for call in self._calls if piece.index is None or call.index == piece.index]
        if not same:
            return None
        last = same[-1]
        is_other = piece.id != last.id if piece.id and last.id else piece.index is None
        return None if piece.function.name and is_other else last
