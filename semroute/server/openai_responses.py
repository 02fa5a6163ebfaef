"""OpenAI's Responses without state: a request has its conversation.

Source: https://platform.openai.com/docs/api-reference/responses/create, .../responses-streaming
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from secrets import token_hex
from typing import Any, TypeAlias

from semroute.errors import InputError
from semroute.server.formats import (
    HINTS,
    AnswerStream,
    ServedCall,
    ServedError,
    asked_model,
    is_streamed,
    json_bytes,
    vendor_headers,
)
from semroute.server.openai_chat import BETAS, error_body
from semroute.server.overflow import Overflow
from semroute.types import Completion, Delta, NativeBody, Request, Tool, ToolCall, ToolCallDelta, Usage

_REFUSED = {
    "previous_response_id": "this gateway keeps no responses: send the whole conversation as input",
    "conversation": "this gateway keeps no conversations: send the whole conversation as input",
    "background": "this gateway keeps no responses: leave it out",
    "prompt": "this gateway keeps no prompts: send instructions and input",
}
_READ = frozenset(
    {
        "model", "input", "instructions", "tools", "tool_choice", "max_output_tokens", "stream", "text", "reasoning",
        *_REFUSED,
    }
)  # fmt: skip
_SAME = frozenset({"temperature", "top_p", "parallel_tool_calls", "service_tier", "user"})
_OF_RESPONSES = frozenset({"type", "allowed_callers", "async", "defer_loading", "output_schema"})
"""Fields of a function that say how OpenAI's own Responses may run or look for it."""
Namespaces: TypeAlias = Mapping[str, tuple[str, str]]
_OPTIONAL = frozenset({"web_search", "web_search_preview", "image_generation", "tool_search"})
"""Tools of OpenAI's own Responses that agents offer with every request: without them a model answers by its others."""
_BETWEEN = "__"
"""Between the namespace and the name of a tool."""
_BEGINNINGS = frozenset({"response.created", "response.in_progress", "response.queued"})
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_UNSENT = frozenset({"include", "stream_options", "client_metadata", "max_tool_calls"})
"""Fields about what the response shows, or which of OpenAI's own tools may run: no other format has them."""


class Responses:
    """OpenAI's Responses as a server's format."""

    def read(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> ServedCall:
        """Return the call in a body, with the beta features of its headers.

        Raises:
            InputError: the body cannot be used; the message names the path.
        """
        model, streaming = asked_model(body), is_streamed(body)
        request = request_of(body, vendor_headers(headers or {}, BETAS))
        return ServedCall(model, request, streaming, namespaces=namespaces_of(body.get("tools")))

    def answer(self, call: ServedCall, completion: Completion) -> Mapping[str, object]:
        """Return the body of a whole answer; ``model`` is the one that answered.

        It is the vendor's own where that speaks this format.
        """
        id = f"resp_{completion.outcome_id or token_hex(16)}"
        if completion.native is not None:
            return {**completion.native, "id": id}
        return _response(call, id, completion, _output(completion, call.namespaces))

    def stream(self, call: ServedCall) -> AnswerStream:
        """Return the encoder of a streamed answer."""
        return _ResponseStream(call)

    def error(self, status: int, kind: str, message: str, wait_s: float | None = None) -> ServedError:
        """Return an error in OpenAI's shape."""
        return ServedError(status, error_body(kind, message), wait_s)

    def overflow(self, overflow: Overflow) -> str:
        """Return OpenAI's sentence for a request too long; it has no counts."""
        if overflow.longest_answer is not None:
            expected = f"Expected a value <= {overflow.longest_answer}, but got {overflow.output_tokens} instead."
            return f"Invalid 'max_output_tokens': integer above maximum value. {expected}"
        return "Your input exceeds the context window of this model. Please adjust your input and try again."


# From a body to a request.


def request_of(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Request:
    """Return the request in a body, with the body itself for native use.

    Deployments of Responses get it.

    Raises:
        InputError: the body cannot be used; the message names the path.
    """
    given = {name: value for name, value in body.items() if value is not None}
    for name, remedy in _REFUSED.items():
        if given.get(name):
            raise _wrong(name, remedy)
    reader = _ConversationReader()
    messages = [*_instructions(given.get("instructions")), *reader.messages(given.get("input"))]
    chat: dict[str, Any] = {"messages": messages}
    chat |= {name: given[name] for name in _SAME & given.keys()}
    chat |= {name: value for name, value in given.items() if name not in _READ | _SAME | _UNSENT}
    if given.pop("truncation", "disabled") != "disabled":
        reader.features.append("truncation")
    chat.pop("truncation", None)
    if "max_output_tokens" in given:
        chat["max_completion_tokens"] = given["max_output_tokens"]
    if "tools" in given:
        chat["tools"] = list(reader.tools(given["tools"]))
    if (choice := reader.choice(given.get("tool_choice"))) is not None:
        chat["tool_choice"] = choice
    chat |= _text(given.get("text"))
    effort = _mapping(given.get("reasoning"), "reasoning").get("effort")
    if effort is not None:
        chat["reasoning_effort"] = effort
    request = Request.from_openai(chat, droppable=HINTS)
    return replace(request, native=NativeBody("responses", body, headers or {}, tuple(reader.features)))


def _instructions(instructions: object) -> Iterator[Mapping[str, object]]:
    if isinstance(instructions, str) and instructions:
        yield {"role": "system", "content": instructions}
    elif instructions:
        raise _wrong("instructions", "is not text")


class _ConversationReader:
    """Reader of items and tools as those of Chat Completions.

    Attributes:
        features: paths of what only Responses have, each a reason against deployments of other formats.
    """

    def __init__(self) -> None:
        self.features: list[str] = []

    def messages(self, items: object) -> Sequence[Mapping[str, object]]:
        """Return items as messages; calls join the assistant's before them."""
        if isinstance(items, str):
            return [{"role": "user", "content": items}]
        messages: list[dict[str, Any]] = []
        for index, item in enumerate(_list(items, "input")):
            path = f"input[{index}]"
            if not isinstance(item, Mapping):
                raise _wrong(path, "is not a mapping")
            kind = item.get("type", "message")
            match kind:
                case "message":
                    content = self._content(item.get("content"), f"{path}.content")
                    messages.append({"role": item.get("role"), "content": content})
                case "function_call" | "custom_tool_call":
                    if not messages or messages[-1]["role"] != "assistant":
                        messages.append({"role": "assistant", "content": None})
                    messages[-1].setdefault("tool_calls", []).append(_call(item, kind, path))
                case "function_call_output" | "custom_tool_call_output":
                    result = self._content(item.get("output"), f"{path}.output")
                    messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": result})
                case "reasoning" | "compaction":
                    pass  # sealed for the deployment that wrote it
                case "item_reference":
                    raise _wrong(
                        f"{path}.type", "is 'item_reference': this gateway keeps no items, send the item itself"
                    )
                case _:
                    self.features.append(f"{path}.type ({kind!s:.40})")
        return messages

    def _content(self, content: object, path: str) -> object:
        if isinstance(content, str | None):
            return content or ""
        found = (self._part(part, f"{path}[{index}]") for index, part in enumerate(_list(content, path)))
        return [part for part in found if part is not None]

    def _part(self, part: Any, path: str) -> Mapping[str, object] | None:
        kind = part.get("type") if isinstance(part, Mapping) else None
        match kind:
            case "input_text" | "output_text" | "text":
                return {"type": "text", "text": part.get("text")}
            case "refusal":
                return {"type": "refusal", "refusal": part.get("refusal")}
            case "input_image" if isinstance(part.get("image_url"), str):
                detail = {} if part.get("detail") is None else {"detail": part["detail"]}
                return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
            case str():
                self.features.append(f"{path} ({kind:.40})")
                return None
            case _:
                raise _wrong(path, "is no part with a type")

    def tools(self, tools: object) -> Iterator[Mapping[str, object]]:
        """Yield the functions and custom tools."""
        for index, tool in enumerate(_list(tools, "tools")):
            yield from self._tools_of(tool, f"tools[{index}]")

    def _tools_of(self, tool: Any, path: str) -> Iterator[Mapping[str, object]]:
        """Yield a tool, or those of a namespace, which joins their names.

        Other formats have no namespaces.
        """
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if kind in _OPTIONAL:
            return
        if kind in ("function", "custom"):
            yield _tool(tool)
        elif kind == "namespace":
            for index, inner in enumerate(_list(tool.get("tools"), f"{path}.tools")):
                where = f"{path}.tools[{index}]"
                if not isinstance(inner, Mapping):
                    raise _wrong(where, "is not a mapping")
                yield from self._tools_of({**inner, "name": _joined(tool.get("name"), inner.get("name"))}, where)
        elif isinstance(kind, str):
            self.features.append(f"{path}.type ({kind:.40})")
        else:
            raise _wrong(f"{path}.type", "is missing")

    def choice(self, choice: object) -> object:
        """Return the tool choice; None for one of the vendor's own tools."""
        if not isinstance(choice, Mapping) or choice.get("type") == "allowed_tools":
            return choice
        kind = choice.get("type")
        if kind in ("function", "custom"):
            return {"type": kind, kind: {"name": choice.get("name")}}
        self.features.append(f"tool_choice ({kind!s:.40})")
        return None


def _call(item: Mapping[str, Any], kind: str, path: str) -> Mapping[str, object]:
    for key in ("call_id", "name"):
        if not isinstance(item.get(key), str) or not item[key]:
            raise _wrong(f"{path}.{key}", "is missing")
    name = _joined(item.get("namespace"), item["name"])
    if kind == "custom_tool_call":
        custom = {"name": name, "input": item.get("input") or ""}
        return {"id": item["call_id"], "type": "custom", "custom": custom}
    function = {"name": name, "arguments": item.get("arguments") or "{}"}
    return {"id": item["call_id"], "type": "function", "function": function}


def _joined(namespace: object, name: object) -> object:
    """Return the name by which models know a tool of a namespace."""
    return f"{namespace}{_BETWEEN}{name}" if isinstance(namespace, str) and isinstance(name, str) else name


def namespaces_of(tools: object) -> Namespaces:
    """Return namespace and own name of namespaced tools, by joined name."""
    found: dict[str, tuple[str, str]] = {}
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, Mapping) and tool.get("type") == "namespace":
            namespace = str(tool.get("name"))
            for inner in tool.get("tools") or ():
                name = str(inner.get("name"))
                found[f"{namespace}{_BETWEEN}{name}"] = (namespace, name)
    return found


def _tool(tool: Mapping[str, Any]) -> Mapping[str, object]:
    if tool["type"] == "function":
        fields = {name: value for name, value in tool.items() if name not in _OF_RESPONSES and value is not None}
        return {"type": "function", "function": fields}
    fields = {name: tool[name] for name in ("name", "description") if tool.get(name) is not None}
    grammar = tool.get("format")
    if isinstance(grammar, Mapping) and grammar.get("type") == "grammar":
        grammar = {"type": "grammar", "grammar": {name: grammar.get(name) for name in ("syntax", "definition")}}
    return {"type": "custom", "custom": {**fields, **({} if grammar is None else {"format": grammar})}}


def _text(text: object) -> dict[str, Any]:
    given = _mapping(text, "text")
    fields = {} if given.get("verbosity") is None else {"verbosity": given["verbosity"]}
    shape = _mapping(given.get("format"), "text.format")
    if shape.get("type") == "json_schema":
        schema = {name: value for name, value in shape.items() if name != "type" and value is not None}
        return fields | {"response_format": {"type": "json_schema", "json_schema": schema}}
    return fields | ({"response_format": dict(shape)} if shape and shape.get("type") != "text" else {})


def _mapping(value: object, path: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(path, "is not a mapping")
    return value


def _list(value: object, path: str) -> Sequence[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return value
    raise _wrong(path, "is missing" if value is None else "is not a list")


def _wrong(path: str, what: str) -> InputError:
    return InputError(f"{path}: {what}")


# From a completion to a response.


def _response(
    call: ServedCall,
    id: str,
    completion: Completion | None,
    output: Sequence[Mapping[str, object]],
    *,
    status: str | None = None,
    error: Mapping[str, object] | None = None,
) -> dict[str, object]:
    incomplete = None
    if completion is not None and completion.finish_reason in ("length", "content_filter"):
        reason = "max_output_tokens" if completion.finish_reason == "length" else "content_filter"
        incomplete = {"reason": reason}
    ended = "in_progress" if completion is None else "completed" if incomplete is None else "incomplete"
    request = call.request
    return {
        "id": id,
        "object": "response",
        "created_at": call.created,
        "status": status or ended,
        "error": error,
        "incomplete_details": incomplete,
        "instructions": None,
        "max_output_tokens": request.max_tokens,
        "model": call.model if completion is None else completion.model,
        "output": list(output),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": request.reasoning_effort, "summary": None},
        "store": False,
        "temperature": request.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": request.tool_choice if isinstance(request.tool_choice, str) else "auto",
        "tools": [_shown(tool) for tool in request.tools],
        "top_p": request.top_p,
        "truncation": "disabled",
        "usage": None if completion is None else usage_of(completion.usage),
        "metadata": {},
    }


def _shown(tool: Tool) -> dict[str, object]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": bool(tool.strict),
    }


def usage_of(usage: Usage | None) -> dict[str, object] | None:
    """Return token counts in the shape of Responses."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _output(completion: Completion, namespaces: Namespaces) -> list[dict[str, object]]:
    items = []
    if completion.reasoning:
        items.append(_reasoning(f"rs_{token_hex(12)}", completion.reasoning))
    if completion.text or completion.refusal:
        items.append(_message(f"msg_{token_hex(12)}", completion.text, completion.refusal))
    items += [_call_item(f"fc_{token_hex(12)}", call, namespaces) for call in completion.tool_calls]
    return items


def _reasoning(id: str, text: str) -> dict[str, object]:
    return {"type": "reasoning", "id": id, "summary": [{"type": "summary_text", "text": text}]}


def _message(id: str, text: str, refusal: str | None, status: str = "completed") -> dict[str, object]:
    content = []
    if text:
        content.append(_text_content(text))
    if refusal:
        content.append({"type": "refusal", "refusal": refusal})
    return {"type": "message", "id": id, "status": status, "role": "assistant", "content": content}


def _text_content(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call_item(id: str, call: ToolCall, namespaces: Namespaces, status: str = "completed") -> dict[str, object]:
    namespace, name = namespaces.get(call.name, (None, call.name))
    named: dict[str, object] = {"call_id": call.id, "name": name}
    if namespace is not None:
        named["namespace"] = namespace
    if call.type == "custom":
        return {"type": "custom_tool_call", "id": id, "status": status, **named, "input": call.arguments}
    return {"type": "function_call", "id": id, "status": status, **named, "arguments": call.arguments}


class _OpenItem:
    """Item of the output that is being streamed: its text and position."""

    def __init__(self, kind: str, id: str, position: int, call: ToolCallDelta | None = None) -> None:
        self.kind, self.id, self.position, self.call = kind, id, position, call
        self.text = ""


class _ResponseStream:
    """Encoder of a streamed answer as the events of Responses.

    One item is open at a time, but for tool calls: each call's fragments name their item, so that those of parallel
    calls may come interleaved. The events of a vendor of this format are passed on; where another deployment had begun
    the answer with reasoning before it failed, their items are counted on.
    """

    def __init__(self, call: ServedCall) -> None:
        self._call = call
        self._id = f"resp_{token_hex(16)}"
        self._number = 0
        self._count = 0  # items so far
        self._first = 0  # position of the first item of the vendor's whose events are passed on
        self._has_started = self._is_begun = self._has_ended = False
        self._calls: dict[int, _OpenItem] = {}
        self._open: _OpenItem | None = None  # reasoning or message
        self._passed: dict[int, Mapping[str, object]] = {}  # items of the vendor's that are open
        self._output: dict[int, Mapping[str, object]] = {}

    def start(self) -> Iterator[bytes]:
        self._has_started = self._is_begun = True
        for kind in ("response.created", "response.in_progress"):
            yield self._event(kind, {"response": _response(self._call, self._id, None, ())})

    def delta(self, delta: Delta) -> Iterator[bytes]:
        if delta.native:
            for event in delta.native:
                yield from self._pass_on(event)
            return
        yield from self._leave_passed()
        if delta.reasoning:
            yield from self._enter("reasoning")
            yield self._piece("response.reasoning_summary_text.delta", delta.reasoning, {"summary_index": 0})
        if delta.text:
            yield from self._enter("message")
            yield self._piece("response.output_text.delta", delta.text, {"content_index": 0, "logprobs": []})
        for fragment in delta.tool_calls:
            yield from self._fragment(fragment)

    def _pass_on(self, event: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield a vendor's event, with the gateway's id and numbers."""
        kind, index, item, response = (event.get(name) for name in ("type", "output_index", "item", "response"))
        if not isinstance(kind, str) or not kind.isprintable():
            return
        if kind == "response.created":
            yield from self._leave()
            yield from self._leave_passed()
            self._first, self._is_begun, self._has_started = self._count, self._has_started, True
        if kind in _BEGINNINGS and self._is_begun:
            return
        fields = {name: value for name, value in event.items() if name not in ("type", "sequence_number")}
        if isinstance(index, int):
            index = fields["output_index"] = self._first + index
            self._count = max(self._count, index + 1)
        if isinstance(index, int) and isinstance(item, Mapping):
            is_done = kind == "response.output_item.done"
            self._passed.pop(index, None)
            (self._output if is_done else self._passed)[index] = item
        if isinstance(response, Mapping):
            fields["response"] = {**response, "id": self._id, **self._begun_output(response)}
        self._has_ended = self._has_ended or kind in _ENDS
        yield self._event(kind, fields)

    def _begun_output(self, response: Mapping[str, Any]) -> Mapping[str, object]:
        """Return a response's output after the items of another deployment.

        That one had begun them.
        """
        begun = [self._output[key] for key in sorted(self._output) if key < self._first]
        return {"output": [*begun, *(response.get("output") or ())]} if begun else {}

    def _leave_passed(self) -> Iterator[bytes]:
        """Close the items of a vendor's that failed while it was reasoning."""
        while self._passed:
            position, item = self._passed.popitem()
            self._output[position] = item
            yield self._event("response.output_item.done", {"output_index": position, "item": item})

    def end(self, completion: Completion) -> Iterator[bytes]:
        if self._has_ended:
            return
        yield from self._leave_passed()
        if completion.refusal and not completion.text:
            yield from self._refuse(completion.refusal)
        yield from self._leave()
        for index, item in self._calls.items():
            yield from self._close_call(item, completion.tool_calls[index])
        response = _response(self._call, self._id, completion, [self._output[key] for key in sorted(self._output)])
        kind = "response.completed" if response["status"] == "completed" else "response.incomplete"
        yield self._event(kind, {"response": response})

    def fail(self, error: ServedError) -> Iterator[bytes]:
        shape = error.body.get("error")
        inner = shape if isinstance(shape, Mapping) else {}
        shown = {"code": inner.get("code") or "server_error", "message": inner.get("message")}
        response = _response(self._call, self._id, None, (), status="failed", error=shown)
        yield self._event("response.failed", {"response": response})

    def ping(self) -> bytes:
        return b": ping\n\n"

    def _add(self, kind: str, item: Mapping[str, object], call: ToolCallDelta | None = None) -> _OpenItem:
        opened = _OpenItem(kind, str(item["id"]), self._count, call)
        self._count += 1
        return opened

    def _enter(self, kind: str) -> Iterator[bytes]:
        if self._open is not None and self._open.kind == kind:
            return
        yield from self._leave()
        if kind == "message":
            item = _message(f"msg_{token_hex(12)}", "", None, "in_progress")
        else:
            item = {**_reasoning(f"rs_{token_hex(12)}", ""), "summary": []}
        self._open = self._add(kind, item)
        yield self._item_event("response.output_item.added", self._open, item)
        if kind == "message":
            yield self._part("response.content_part.added", {"content_index": 0, "part": _text_content("")})
        else:
            part = {"type": "summary_text", "text": ""}
            yield self._part("response.reasoning_summary_part.added", {"summary_index": 0, "part": part})

    def _leave(self) -> Iterator[bytes]:
        item, self._open = self._open, None
        if item is None:
            return
        where: dict[str, object] = {"item_id": item.id, "output_index": item.position}
        if item.kind == "message":
            where["content_index"] = 0
            yield self._event("response.output_text.done", {**where, "text": item.text, "logprobs": []})
            yield self._event("response.content_part.done", {**where, "part": _text_content(item.text)})
            done = _message(item.id, item.text, None)
        else:
            where["summary_index"] = 0
            part = {"type": "summary_text", "text": item.text}
            yield self._event("response.reasoning_summary_text.done", {**where, "text": item.text})
            yield self._event("response.reasoning_summary_part.done", {**where, "part": part})
            done = _reasoning(item.id, item.text)
        yield self._done(item, done)

    def _refuse(self, refusal: str) -> Iterator[bytes]:
        yield from self._leave()
        done = _message(f"msg_{token_hex(12)}", "", refusal)
        item = self._add("message", done)
        yield self._item_event("response.output_item.added", item, {**done, "status": "in_progress", "content": []})
        where = {"item_id": item.id, "output_index": item.position, "content_index": 0}
        yield self._event("response.refusal.delta", {**where, "delta": refusal})
        yield self._event("response.refusal.done", {**where, "refusal": refusal})
        yield self._done(item, done)

    def _fragment(self, fragment: ToolCallDelta) -> Iterator[bytes]:
        item = self._calls.get(fragment.index)
        if item is None:
            yield from self._leave()
            call = ToolCall(fragment.id or "", fragment.name or "", "", type=fragment.type or "function")
            shown = _call_item(f"fc_{token_hex(12)}", call, self._call.namespaces, "in_progress")
            item = self._calls[fragment.index] = self._add("call", shown, fragment)
            yield self._item_event("response.output_item.added", item, shown)
        if fragment.arguments:
            item.text += fragment.arguments
            where = {"item_id": item.id, "output_index": item.position}
            yield self._event(f"{_call_kind(item)}.delta", {**where, "delta": fragment.arguments})

    def _close_call(self, item: _OpenItem, call: ToolCall) -> Iterator[bytes]:
        key = "input" if call.type == "custom" else "arguments"
        where = {"item_id": item.id, "output_index": item.position}
        yield self._event(f"{_call_kind(item)}.done", {**where, "name": call.name, key: call.arguments})
        yield self._done(item, _call_item(item.id, call, self._call.namespaces))

    def _done(self, item: _OpenItem, shown: Mapping[str, object]) -> bytes:
        self._output[item.position] = shown
        return self._item_event("response.output_item.done", item, shown)

    def _item_event(self, kind: str, item: _OpenItem, shown: Mapping[str, object]) -> bytes:
        return self._event(kind, {"output_index": item.position, "item": shown})

    def _part(self, kind: str, fields: Mapping[str, object]) -> bytes:
        assert self._open is not None
        return self._event(kind, {"item_id": self._open.id, "output_index": self._open.position, **fields})

    def _piece(self, kind: str, text: str, fields: Mapping[str, object]) -> bytes:
        assert self._open is not None
        self._open.text += text
        return self._part(kind, {**fields, "delta": text})

    def _event(self, kind: str, fields: Mapping[str, object]) -> bytes:
        body = json_bytes({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"


def _call_kind(item: _OpenItem) -> str:
    is_custom = item.call is not None and item.call.type == "custom"
    return "response.custom_tool_call_input" if is_custom else "response.function_call_arguments"
