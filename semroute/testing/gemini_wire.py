"""Gemini's wire format: generated content, streamed and not, and error objects.

Source of the shapes: https://ai.google.dev/api/generate-content; of errors: https://cloud.google.com/apis/design/errors
and the messages of google/rpc/error_details.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from semroute.testing import gemini_checks
from semroute.testing.http11 import HttpRequest
from semroute.testing.neutral import Answer, ChatRequest, Failure, StreamEvent, alternatives, encode, numbered, pieces

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
read = gemini_checks.read
KEEPALIVE = b": keep-alive\r\n\r\n"
MALFORMED_EVENT = b'data: {"candidates": [{"content": {"par\r\n\r\n'


def refused(request: HttpRequest, key: str) -> Failure | None:
    """The failure where the request does not carry the key.

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
    """A ``GenerateContentResponse``."""
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
    """The chunks of a streamed answer: each a ``GenerateContentResponse``, the last with a finish reason."""
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
    """Status, headers and body of an error. A filtered prompt is a 200 without candidates."""
    headers = {} if failure.retry_after is None else {"retry-after": str(failure.retry_after)}
    if failure.reason == "content_filter":
        blocked = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": []}
        return 200, headers, {"promptFeedback": blocked, "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1}}
    return failure.status, headers, _error(failure)


def error_event(failure: Failure) -> bytes:
    """An error in the middle of a stream."""
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
    """Gemini counts thoughts apart from the answer's tokens."""
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
