"""What the double answers: scripted replies, and OpenAI's wire format for honest ones.

Source of the shapes: https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted answer.

    Attributes:
        status: HTTP status.
        body: sent as it is; None lets the server answer honestly, after ``delay_s``.
        headers: sent with it.
        delay_s: wait before answering, seconds; cut short when the server stops.
    """

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: dict(JSON))
    delay_s: float = 0.0


def answer(text: str, *, input_tokens: int = 1, output_tokens: int = 1, model: str = "scripted") -> Reply:
    """A completion with this text."""
    return Reply(body=_encode(completion(text, model, input_tokens, output_tokens)))


def fail(status: int, message: str = "scripted failure", *, retry_after: float | str | None = None) -> Reply:
    """An error with an OpenAI error object; ``retry_after`` is seconds or an HTTP date."""
    headers = dict(JSON) if retry_after is None else {**JSON, "retry-after": str(retry_after)}
    return Reply(status=status, body=_encode(error(message, status)), headers=headers)


def hang(seconds: float = 3600.0) -> Reply:
    """No answer for so long; then an honest one."""
    return Reply(delay_s=seconds)


def malformed(text: str = '{"choices": [{"mess') -> Reply:
    """A 200 that is not JSON."""
    return Reply(body=text.encode())


def error_in_200(message: str = "scripted failure", *, code: int | str | None = None) -> Reply:
    """A 200 that holds an error object in place of choices."""
    return Reply(body=_encode({"error": {"message": message, "type": "server_error", "code": code}}))


def empty_choices() -> Reply:
    """A 200 with no choices."""
    return Reply(body=_encode({**completion("", "scripted", 1, 0), "choices": []}))


def completion(text: str, model: str, input_tokens: int, output_tokens: int) -> dict[str, object]:
    """A chat completion object."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        },
    }


def error(message: str, status: int) -> dict[str, object]:
    """An OpenAI error object."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def respond(path: str, body: object, *, dimensions: int) -> tuple[int, dict[str, object]]:
    """The honest answer to a request: an echo, or embeddings; a status with an error object where it asks for neither.

    Tokens are counted as words.
    """
    if not isinstance(body, dict):
        return 400, error("the body is not a JSON object", 400)
    if path == "/v1/chat/completions":
        return _echo(body)
    if path == "/v1/embeddings":
        return _embeddings(body, dimensions)
    return 404, error(f"unknown path {path}", 404)


def embed(text: str, dimensions: int) -> list[float]:
    """A unit vector for a text, the same on every machine: texts that share words lie nearer to each other."""
    vector = [0.0] * dimensions
    for word in text.lower().split() or [""]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        vector[int.from_bytes(digest[:4], "big") % dimensions] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else [1.0] + [0.0] * (dimensions - 1)


def _echo(body: Mapping[str, object]) -> tuple[int, dict[str, object]]:
    messages, model = body.get("messages"), body.get("model")
    if not isinstance(model, str) or not model:
        return 400, error("you must provide a model parameter", 400)
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        return 400, error("messages must be a list of at least one message", 400)
    if body.get("stream"):
        return 400, error("this server does not stream", 400)
    texts = [_text(message.get("content")) for message in messages]
    echo = next((t for m, t in zip(reversed(messages), reversed(texts), strict=True) if m.get("role") == "user"), "")
    return 200, completion(echo, model, sum(len(text.split()) for text in texts), len(echo.split()))


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _embeddings(body: Mapping[str, object], dimensions: int) -> tuple[int, dict[str, object]]:
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        return 400, error("input must be a text or a list of texts, none of them empty", 400)
    asked = body.get("dimensions", dimensions)
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1:
        return 400, error("dimensions must be a whole number above 0", 400)
    vectors: list[object] = [embed(text, asked) for text in texts]
    if body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{asked}f", *embed(text, asked))).decode() for text in texts]
    words = sum(len(text.split()) for text in texts)
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": words, "total_tokens": words}
    return 200, {"object": "list", "data": data, "model": body.get("model"), "usage": usage}


def _encode(value: object) -> bytes:
    return json.dumps(value).encode()
