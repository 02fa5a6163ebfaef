"""Gemini ``generateContent``: request checks and wire format.

:func:`check_request` turns a request body into a :class:`~semroute.testing.replies.ChatRequest`.

Source: https://ai.google.dev/api/generate-content and https://ai.google.dev/api/caching (Content, Tool, ToolConfig).
As in all JSON of protocol buffers, a field may be in camelCase or snake_case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from semroute.testing.answers import names, need, texts, tool_name, whole_number, within
from semroute.testing.http import HttpRequest
from semroute.testing.replies import (
    Answer,
    ChatRequest,
    Failure,
    StreamEvent,
    alternatives,
    encode,
    numbered,
    pieces,
    words,
)

_BODY = names(
    """
    contents tools toolConfig safetySettings systemInstruction generationConfig cachedContent labels model
    serviceTier store
    """
)
_CONFIG = names(
    """
    stopSequences responseMimeType responseSchema responseJsonSchema responseModalities candidateCount
    maxOutputTokens temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs
    thinkingConfig speechConfig enableEnhancedCivicAnswers mediaResolution audioTimestamp routingConfig
    modelSelectionConfig imageConfig responseFormat
    """
)
_THINKING = names("includeThoughts thinkingBudget thinkingLevel")
_LEVELS = ("minimal", "low", "medium", "high")
_PARTS = names(
    """
    text inlineData fileData functionCall functionResponse executableCode codeExecutionResult thought
    thoughtSignature videoMetadata partMetadata mediaResolution
    """
)
_DATA = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
_MODEL = re.compile(r"/models/([^/:]+):")


def check_request(request: HttpRequest, body: Any, serial: int) -> ChatRequest:
    """Check a request and return its content.

    Raises:
        RefusedError: Gemini would reject it too.
    """
    need(isinstance(body, dict), "Invalid JSON payload received.")
    fields = _fields(body, _BODY, "")
    config = _fields(fields.get("generationConfig") or {}, _CONFIG, "generation_config")
    said = _contents(fields.get("contents"))
    system = _texts_of(fields["systemInstruction"], "system_instruction") if fields.get("systemInstruction") else ""
    most, stop = config.get("maxOutputTokens"), config.get("stopSequences")
    need(most is None or whole_number(most, 1), "max_output_tokens must be positive.")
    need(config.get("temperature") is None or within(config["temperature"], 0, 2), "temperature must be from 0 to 2.")
    answers = config.get("candidateCount")
    need(answers is None or whole_number(answers, 1, 8), "candidate_count must be from 1 to 8.")
    need(config.get("topP") is None or within(config["topP"], 0, 1), "top_p must be from 0 to 1.")
    need(config.get("topK") is None or whole_number(config["topK"], 1), "top_k must be positive.")
    thinking = _fields(config.get("thinkingConfig") or {}, _THINKING, "generation_config.thinking_config")
    need(
        len(thinking.keys() - {"includeThoughts"}) < 2, "thinking_budget and thinking_level are not supported together"
    )
    need(str(thinking.get("thinkingLevel", "low")).lower() in _LEVELS, "Invalid value at 'thinking_level'")
    tier = fields.get("serviceTier")
    need(tier in (None, "standard", "flex", "priority"), "Invalid value at 'service_tier'")
    need(stop is None or (texts(stop) and len(stop) <= 5), "stop_sequences must be at most 5 texts.")
    named = _MODEL.search(request.path)
    return ChatRequest(
        model=named.group(1) if named else "",
        text=next((text for role, text in reversed(said) if role == "user"), ""),
        input_tokens=words(system) + sum(words(text) for _, text in said),
        stream=":stream" in request.path,
        as_list=":stream" in request.path and request.query.get("alt") != "sse",
        max_tokens=most,
        stop=tuple(text for text in stop or () if text),
        call=_call(fields),
        schema=_schema(config),
        top_logprobs=_logprobs(config),
        answers=answers or 1,
        serial=serial,
    )


def _fields(given: Any, known: Iterable[str], where: str) -> dict[str, Any]:
    """Return a message's fields by their camelCase names."""
    need(isinstance(given, dict), f"Invalid value at '{where}': not an object.")
    fields = {re.sub(r"_([a-z])", lambda match: match.group(1).upper(), name): value for name, value in given.items()}
    for name in fields:
        at = f" at '{where}'" if where else ""
        need(name in known, f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.')
    return fields


def _contents(contents: Any) -> list[tuple[str, str]]:
    """Return the role and text of each message."""
    need(isinstance(contents, list) and contents, "* GenerateContentRequest.contents: contents is not specified")
    said = []
    for place, content in enumerate(contents):
        where = f"contents[{place}]"
        fields = _fields(content, ("role", "parts"), where)
        role = fields.get("role") or "user"
        need(role in ("user", "model", "function"), "Please use a valid role: user, model.")
        said.append((role, _texts_of(content, where)))
    return said


def _texts_of(content: Any, where: str) -> str:
    fields = _fields(content, ("role", "parts"), where)
    given = fields.get("parts")
    parts: Any = [given] if isinstance(given, dict) else given
    need(isinstance(parts, list) and parts, f"* {where}.parts: contents.parts must not be empty.")
    found = []
    for number, part in enumerate(parts):
        inner = _fields(part, _PARTS, f"{where}.parts[{number}]")
        data = [name for name in inner if name in _DATA]
        need(len(data) == 1, f"{where}.parts[{number}].data: required oneof field 'data' must be initialized")
        if data == ["text"] and not inner.get("thought"):
            need(isinstance(inner["text"], str), f"Invalid value at '{where}.parts[{number}].text' (TYPE_STRING)")
            found.append(inner["text"])
        elif data[0] in ("inlineData", "fileData"):
            _media(inner[data[0]], f"{where}.parts[{number}]")
        elif data[0] in ("functionCall", "functionResponse"):
            named = isinstance(inner[data[0]], dict) and tool_name(inner[data[0]].get("name"))
            need(named, f"{where}.parts[{number}].{data[0]}.name: Name cannot be empty.")
    return " ".join(found)


def _media(value: Any, where: str) -> None:
    fields = _fields(value, ("mimeType", "data", "fileUri", "displayName"), where)
    source = fields.get("data") or fields.get("fileUri")
    need(isinstance(source, str) and source, f"{where}: media needs data or a file uri.")
    need("fileUri" in fields or isinstance(fields.get("mimeType"), str), f"{where}: inline data needs a mime type.")


def _call(fields: Mapping[str, Any]) -> tuple[str, Mapping[str, object]] | None:
    schemas: dict[str, Mapping[str, object]] = {}
    tools: Any = fields.get("tools") or []
    need(isinstance(tools, list), "Invalid value at 'tools'")
    for place, tool in enumerate(tools):
        need(isinstance(tool, dict), f"Invalid value at 'tools[{place}]'")
        declarations: Any = tool.get("functionDeclarations") or tool.get("function_declarations") or []
        need(isinstance(declarations, list), f"Invalid value at 'tools[{place}].function_declarations'")
        for declared in declarations:
            named = isinstance(declared, dict) and tool_name(declared.get("name"))
            need(named, f"* GenerateContentRequest.tools[{place}].function_declarations: Invalid function name.")
            schema = declared.get("parametersJsonSchema") or declared.get("parameters_json_schema")
            schema = schema or declared.get("parameters") or {"type": "object"}
            need(isinstance(schema, dict), f"Invalid value at 'tools[{place}].function_declarations.parameters'")
            schemas[declared["name"]] = schema
    config = _fields(fields.get("toolConfig") or {}, ("functionCallingConfig", "retrievalConfig"), "tool_config")
    known = ("mode", "allowedFunctionNames", "streamFunctionCallArguments")
    calling = _fields(config.get("functionCallingConfig") or {}, known, "function_calling_config")
    mode, allowed = str(calling.get("mode") or "AUTO").upper(), calling.get("allowedFunctionNames") or []
    need(mode in ("AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"), f"Invalid value for mode: {mode}")
    need(mode in ("ANY", "VALIDATED") or not allowed, "allowed_function_names should be set only with mode ANY.")
    need(
        texts(allowed) and all(name in schemas for name in allowed),
        "allowed_function_names must be among the declared functions.",
    )
    if mode != "ANY":
        return None
    need(schemas, "Function calling mode is ANY, but no function declarations are given.")
    name = allowed[0] if allowed else next(iter(schemas))
    return name, schemas[name]


def _schema(config: Mapping[str, Any]) -> Mapping[str, object] | None:
    kind = config.get("responseMimeType")
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if schema is not None:
        need(isinstance(schema, dict), "Invalid value at 'generation_config.response_schema'")
        need(kind == "application/json", "response_schema only allowed with response_mime_type application/json.")
        return dict(schema)
    return {"type": "object"} if kind == "application/json" else None


def _logprobs(config: Mapping[str, Any]) -> int | None:
    wanted, top = config.get("responseLogprobs") or False, config.get("logprobs")
    need(top is None or wanted, "logprobs is only allowed when response_logprobs is true.")
    need(top is None or whole_number(top, 0, 20), "logprobs must be from 0 to 20.")
    return (top or 0) if wanted else None


# Wire format: generated content, streamed and not, and error objects.
#
# Source of the shapes: https://ai.google.dev/api/generate-content; of errors:
# https://cloud.google.com/apis/design/errors and the messages of google/rpc/error_details.proto.

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FINISHES = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_RPC = "type.googleapis.com/google.rpc."
read = check_request
KEEPALIVE = b": keep-alive\r\n\r\n"
MALFORMED_EVENT = b'data: {"candidates": [{"content": {"par\r\n\r\n'


def refused(request: HttpRequest, key: str) -> Failure | None:
    """Return the failure of a request without the key, else None.

    AI Studio reads ``x-goog-api-key`` or the parameter ``key``, Vertex a bearer token.
    """
    if "/publishers/" in request.path:
        if request.headers.get("authorization") == f"Bearer {key}":
            return None
        return Failure(401, "Request had invalid authentication credentials. Expected OAuth 2 access token.")
    given = request.headers.get("x-goog-api-key") or request.query.get("key")
    if given == key:
        return None
    if given is None:
        return Failure(403, "Method doesn't allow unregistered callers. Please use API Key.")
    return Failure(400, "API key not valid. Please pass a valid API key.", "key")


def whole(ask: ChatRequest, answer: Answer) -> dict[str, object]:
    """Return a ``GenerateContentResponse``."""
    measured = None if ask.top_logprobs is None else pieces(answer.text)
    candidates = []
    for index in range(0 if answer.hollow else ask.answers):
        parts: list[dict[str, object]] = _thoughts(answer)
        if answer.text and not answer.refused:
            parts.append({"text": numbered(answer.text, index)})
        candidate = _candidate(ask, answer, [*parts, *_calls(answer)], measured) | _finished(answer)
        candidates.append(candidate | {"index": index})
    return _response(ask, answer, candidates, last=True)


def events(ask: ChatRequest, answer: Answer) -> Iterator[StreamEvent]:
    """Yield the chunks of a streamed answer.

    Each is a ``GenerateContentResponse``, the last with a finish reason.
    """
    opening = b"["
    for part in _thoughts(answer):
        body = _response(ask, answer, [_candidate(ask, answer, [part], None)], last=False)
        yield StreamEvent(_framed(ask, body, opening), "piece")
        opening = b",\r\n"
    for piece in [] if answer.refused else pieces(answer.text):
        measured = None if ask.top_logprobs is None else [piece]
        candidate = _candidate(ask, answer, [{"text": piece}], measured)
        body = _response(ask, answer, [] if answer.hollow else [candidate], last=False)
        yield StreamEvent(_framed(ask, body, opening), "piece")
        opening = b",\r\n"
    for part in _calls(answer):
        body = _response(ask, answer, [_candidate(ask, answer, [part], None)], last=False)
        yield StreamEvent(_framed(ask, body, opening), "piece")
        opening = b",\r\n"
    candidate = _candidate(ask, answer, [] if answer.refused else [{"text": ""}], None) | _finished(answer)
    body = _response(ask, answer, [] if answer.hollow else [candidate], last=True)
    yield StreamEvent(_framed(ask, body, opening), "finish")
    if ask.as_list:
        yield StreamEvent(b"]", "end")


def error(failure: Failure) -> tuple[int, dict[str, str], dict[str, object]]:
    """Return the status, headers and body of an error.

    A filtered prompt is a 200 without candidates.
    """
    headers = {} if failure.retry_after is None else {"retry-after": str(failure.retry_after)}
    if failure.reason == "content_filter":
        blocked = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": []}
        return 200, headers, {"promptFeedback": blocked, "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1}}
    return failure.status, headers, _error(failure)


def error_event(failure: Failure) -> bytes:
    """Return an error for the middle of a stream."""
    return b"data: %b\r\n\r\n" % encode(_error(failure))


def _error(failure: Failure) -> dict[str, object]:
    code = failure.code if isinstance(failure.code, int) else failure.status if failure.status != 200 else 500
    status = _STATUSES.get(code, "INTERNAL" if code >= 500 else "INVALID_ARGUMENT")
    message, details = failure.message, _details(failure)
    if failure.reason == "context_length":
        message = "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576)."
    body: dict[str, object] = {"code": code, "message": message, "status": status}
    return {"error": body | ({"details": details} if details else {})}


def _details(failure: Failure) -> list[dict[str, object]]:
    details: list[dict[str, object]] = []
    if failure.reason == "key" and failure.status == 400:
        details.append({"@type": _RPC + "ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"})
    if failure.reason == "quota" or (failure.status == 429 and failure.reset_s is not None):
        span = "PerDay" if failure.reason == "quota" else "PerMinute"
        violation = {
            "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
            "quotaId": f"GenerateRequests{span}PerProjectPerModel-FreeTier",
            "quotaValue": "50",
        }
        details.append({"@type": _RPC + "QuotaFailure", "violations": [violation]})
    if failure.reset_s is not None:
        details.append(
            {"@type": _RPC + "RetryInfo", "retryDelay": f"{failure.reset_s:.9f}".rstrip("0").rstrip(".") + "s"}
        )
    return details


def _thoughts(answer: Answer) -> list[dict[str, object]]:
    return [{"text": answer.reasoning, "thought": True}] if answer.reasoning else []


def _calls(answer: Answer) -> list[dict[str, object]]:
    return [{"functionCall": {"name": call.name, "args": call.arguments}} for call in answer.calls]


def _finished(answer: Answer) -> dict[str, object]:
    if answer.refused:
        return {"finishReason": "PROHIBITED_CONTENT", "finishMessage": answer.text}
    return {"finishReason": _FINISHES[answer.finish]}


def _candidate(
    ask: ChatRequest, answer: Answer, parts: list[dict[str, object]], measured: list[str] | None
) -> dict[str, object]:
    candidate: dict[str, object] = {"content": {"parts": parts, "role": "model"} if parts else {"role": "model"}}
    candidate["index"] = 0
    if measured:
        values = list(map(answer.logprob_of, measured))
        candidate["avgLogprobs"] = sum(values) / len(values)
        candidate["logprobsResult"] = {
            "chosenCandidates": list(map(_token, measured, values)),
            "topCandidates": [
                {"candidates": [_token(*other) for other in alternatives(piece, value, max(ask.top_logprobs or 0, 1))]}
                for piece, value in zip(measured, values, strict=True)
            ],
        }
    return candidate


def _token(token: str, value: float) -> dict[str, object]:
    return {"token": token, "tokenId": len(token), "logProbability": value}


def _response(
    ask: ChatRequest, answer: Answer, candidates: list[dict[str, object]], *, last: bool
) -> dict[str, object]:
    body: dict[str, object] = {"candidates": candidates} if candidates else {}
    if answer.counted:
        body["usageMetadata"] = _usage(answer, last=last)
    return body | {"modelVersion": answer.model or ask.model, "responseId": f"fake{ask.serial}"}


def _usage(answer: Answer, *, last: bool) -> dict[str, int]:
    """Return the usage, with thoughts counted apart from the answer."""
    usage = {"promptTokenCount": answer.input_tokens, "totalTokenCount": answer.input_tokens}
    if last:
        usage["candidatesTokenCount"] = answer.output_tokens - answer.reasoning_tokens
        usage["totalTokenCount"] += answer.output_tokens
        if answer.reasoning_tokens:
            usage["thoughtsTokenCount"] = answer.reasoning_tokens
    if answer.cached_tokens:
        usage["cachedContentTokenCount"] = answer.cached_tokens
    return usage


def _framed(ask: ChatRequest, body: dict[str, object], opening: bytes) -> bytes:
    return opening + encode(body) if ask.as_list else b"data: %b\r\n\r\n" % encode(body)
