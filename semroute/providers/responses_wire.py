"""Wire models of OpenAI's Responses: input items, response objects.

Source: https://platform.openai.com/docs/api-reference/responses/object; fields that some servers leave out or fill
differently are read leniently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from pydantic import BaseModel, FiniteFloat, ValidationError

from semroute.errors import CapabilityError, RequestError
from semroute.providers.answers import Count
from semroute.types import FinishReason, Message, TokenLogprob, Tool, ToolCall, Usage


class OutputPart(BaseModel):
    """Part of a message, or of reasoning."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    logprobs: Any = None


class OutputItem(BaseModel):
    """Item of an answer; of types that are not read only the type is known."""

    type: str
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    content: list[OutputPart] | None = None
    summary: list[OutputPart] | None = None

    @property
    def is_call(self) -> bool:
        """True for a call of a function, or of a custom tool."""
        return self.type in ("function_call", "custom_tool_call")

    @property
    def call(self) -> ToolCall:
        """Tool call of the item; a missing id is empty."""
        is_custom = self.type == "custom_tool_call"
        given = (self.input if is_custom else self.arguments) or ""
        kind = "custom" if is_custom else "function"
        return ToolCall(self.call_id or "", self.name or "", given or ("" if is_custom else "{}"), type=kind)


class _Incomplete(BaseModel):
    reason: str | None = None


class ResponseObject(BaseModel):
    """Whole response; ``error`` is that of one that failed."""

    status: str | None = None
    model: str | None = None
    output: list[OutputItem] | None = None
    incomplete_details: _Incomplete | None = None
    usage: Any = None
    error: Any = None


class StreamedEvent(BaseModel):
    """Event of a stream; ``delta`` is text in the events that are read."""

    type: str
    output_index: int = 0
    summary_index: int = 0
    delta: Any = None
    logprobs: Any = None
    item: OutputItem | None = None
    response: ResponseObject | None = None


class _TokenDetails(BaseModel):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None


class _ResponseUsage(BaseModel):
    input_tokens: Count
    output_tokens: Count
    input_tokens_details: _TokenDetails | None = None
    output_tokens_details: _TokenDetails | None = None


class _Logprob(BaseModel):
    token: str
    logprob: FiniteFloat


def usage(value: object) -> Usage | None:
    """Return the token usage; None if it is missing or invalid."""
    if value is None:
        return None
    try:
        counted = _ResponseUsage.model_validate(value)
    except ValidationError:
        return None
    read, written = counted.input_tokens_details or _TokenDetails(), counted.output_tokens_details or _TokenDetails()
    return Usage(
        counted.input_tokens,
        counted.output_tokens,
        cached_tokens=min(read.cached_tokens or 0, counted.input_tokens),
        cache_write_tokens=min(read.cache_write_tokens or 0, counted.input_tokens),
        reasoning_tokens=min(written.reasoning_tokens or 0, counted.output_tokens),
    )


def logprobs(value: object) -> tuple[TokenLogprob, ...]:
    """Return the log probabilities of a part or an event, if any."""
    if not isinstance(value, list) or not value:
        return ()
    try:
        found = [_Logprob.model_validate(one) for one in value]
    except ValidationError:
        return ()
    return tuple(TokenLogprob(one.token, one.logprob) for one in found)


def finish_reason(response: ResponseObject, *, calls: bool, refuses: bool) -> FinishReason | None:
    """Map a response's status to our finish reason; None without status."""
    if response.status == "incomplete":
        reason = None if response.incomplete_details is None else response.incomplete_details.reason
        known: dict[str | None, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
        return known.get(reason, "other")
    if refuses:
        return "refusal"
    if calls:
        return "tool_calls"
    return None if response.status is None else "stop" if response.status == "completed" else "other"


def reasoning_of(items: Iterable[OutputItem]) -> str:
    """Return an answer's reasoning: its summaries, or its text without any."""
    found = []
    for item in items:
        if item.type == "reasoning":
            found += [part.text for part in (item.summary or item.content or ()) if part.text]
    return "\n\n".join(found)


def message_parts(items: Iterable[OutputItem]) -> Iterator[OutputPart]:
    """Yield the parts of the messages among the items of an answer."""
    for item in items:
        if item.type == "message":
            yield from item.content or ()


# Writing of the input.

_READ: Mapping[str, frozenset[str]] = {
    "system": frozenset(),
    "developer": frozenset(),
    "user": frozenset(),
    "assistant": frozenset({"tool_calls", "refusal", "phase"}),
    "tool": frozenset({"tool_call_id", "name", "is_error"}),
}
"""Fields read from a message of each role, besides its role and content; of an assistant's others are left out."""


class ItemWriter:
    """Writer of a conversation's messages as items of the input.

    Args:
        deployment: name of the deployment, for errors.
    """

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._custom: set[str] = set()  # ids of calls of custom tools
        self._where = ""

    def write(self, number: int, message: Message) -> Iterator[dict[str, object]]:
        """Yield the items of a message.

        Raises:
            CapabilityError: it has something that no item can say.
            RequestError: no server could read it.
        """
        self._where = f"message {number}"
        role = message.get("role") if isinstance(message, Mapping) else None
        if not isinstance(role, str):
            self._wrong("is not a mapping with a role")
        if role not in _READ:
            self._cannot(f"has the role {role!r}")
        for key, value in message.items():
            is_known = key in ("role", "content", "cache_control") or key in _READ[role]
            if value and not is_known and (role != "assistant" or key == "function_call"):
                self._cannot(f"has {key!r}")
        if role == "tool":
            yield self._result(message)
        elif role == "assistant":
            yield from self._answer(message)
        else:
            yield {"role": role, "content": self._content(message.get("content"))}

    def _content(self, content: object) -> object:
        if isinstance(content, str | None):
            return content or ""
        if not isinstance(content, list | tuple):
            self._wrong("has content that is neither text nor a list of parts")
        return [self._part(part) for part in content]

    def _part(self, part: Any) -> dict[str, object]:
        kind = part.get("type") if isinstance(part, Mapping) else None
        match kind:
            case "text" | "refusal":
                return {"type": "input_text", "text": self._words(part.get(kind))}
            case "image_url":
                given = part.get("image_url")
                image = given if isinstance(given, Mapping) else {"url": given}
                if not isinstance(image.get("url"), str):
                    self._wrong("has an image without an address")
                return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail") or "auto"}
            case "file" if isinstance(part.get("file"), Mapping):
                return {"type": "input_file", **part["file"]}
            case _:
                return self._cannot(f"has a part of type {kind!r}")

    def _words(self, text: object) -> str:
        return text if isinstance(text, str) else self._wrong("has a text part without text")

    def _answer(self, message: Message) -> Iterator[dict[str, object]]:
        content, refusal, calls = message.get("content"), message.get("refusal"), message.get("tool_calls") or ()
        parts = list(self._said(content))
        if isinstance(refusal, str) and refusal:
            parts.append({"type": "refusal", "refusal": refusal})
        phase = {"phase": message["phase"]} if message.get("phase") else {}
        if parts:
            is_text = isinstance(content, str) and len(parts) == 1 and content
            yield {"role": "assistant", "content": content if is_text else parts, **phase}
        if not isinstance(calls, list | tuple):
            self._wrong("has tool_calls that are not a list")
        for call in calls:
            yield self._call(call)

    def _said(self, content: object) -> Iterator[dict[str, object]]:
        """Yield the parts of an answer without reasoning.

        Other vendors have reasoning there.
        """
        if isinstance(content, str | None):
            content = [{"type": "text", "text": content}] if content else []
        if not isinstance(content, list | tuple):
            self._wrong("has content that is neither text nor a list of parts")
        for part in content:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind == "text":
                yield {"type": "output_text", "text": self._words(part.get("text"))}
            elif kind == "refusal":
                yield {"type": "refusal", "refusal": self._words(part.get("refusal"))}
            elif kind not in ("thinking", "redacted_thinking", "reasoning"):
                self._cannot(f"has a part of type {kind!r}")

    def _call(self, call: Any) -> dict[str, object]:
        kind = (call.get("type") or "function") if isinstance(call, Mapping) else None
        called = call.get(kind) if kind in ("function", "custom") else None
        if not isinstance(called, Mapping):
            self._cannot("has a call of something that is not a tool")
        field = "input" if kind == "custom" else "arguments"
        id, name, given = call.get("id"), called.get("name"), called.get(field) or ("" if kind == "custom" else "{}")
        if not (isinstance(id, str) and id and isinstance(name, str) and name and isinstance(given, str)):
            self._wrong("has a call without id, name or arguments")
        if kind == "custom":
            self._custom.add(id)
        item = "custom_tool_call" if kind == "custom" else "function_call"
        return {"type": item, "call_id": id, "name": name, field: given}

    def _result(self, message: Message) -> dict[str, object]:
        id = message.get("tool_call_id")
        if not isinstance(id, str) or not id:
            self._wrong("answers no call: it has no tool_call_id")
        item = "custom_tool_call_output" if id in self._custom else "function_call_output"
        return {"type": item, "call_id": id, "output": self._content(message.get("content"))}

    def _cannot(self, what: str) -> NoReturn:
        message = f"{self._deployment}: {self._where} {what}, which its wire format cannot carry"
        raise CapabilityError(message, deployment=self._deployment)

    def _wrong(self, what: str) -> NoReturn:
        raise RequestError(f"{self._deployment}: {self._where} {what}", deployment=self._deployment)


def written_tool(tool: Tool) -> dict[str, object]:
    """Return a tool in the flat shape of Responses.

    It is not strict unless it says so.
    """
    if tool.definition is not None:
        return _flat(tool.definition)
    function: dict[str, object] = {"type": "function", "name": tool.name}
    if tool.description:
        function["description"] = tool.description
    parameters = dict(tool.parameters) or {"type": "object", "properties": {}}
    return {**function, "parameters": parameters, "strict": bool(tool.strict)}


def written_choice(choice: Mapping[str, object]) -> dict[str, object]:
    """Return a tool choice that is a mapping as Responses have it: flat."""
    written = _flat(choice)
    if isinstance(tools := written.get("tools"), list):
        written["tools"] = [_flat(tool) if isinstance(tool, Mapping) else tool for tool in tools]
    return written


def _flat(nested: Mapping[str, object]) -> dict[str, object]:
    """Flatten a mapping of Chat Completions, nested under its type."""
    kind = nested.get("type")
    inner = nested.get(kind) if isinstance(kind, str) else None
    if not isinstance(inner, Mapping):
        return dict(nested)
    grammar = inner.get("format")
    if isinstance(grammar, Mapping) and isinstance(grammar.get("grammar"), Mapping):
        inner = {**inner, "format": {"type": "grammar", **grammar["grammar"]}}
    return {"type": kind, **inner}
