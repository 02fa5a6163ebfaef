"""Answers of the fake provider, whatever the wire format.

Checks of requests, embeddings, the rate limit, the recorded requests, and chat answers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from semroute.testing.replies import Answer, Call, ChatRequest, Failure, Finish, pieces, words

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}\Z")


class RefusedError(Exception):
    """Rejected request, with the error response to send."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def need(condition: object, message: str, param: str | None = None, *, status: int = 400) -> None:
    """Raise unless the condition holds.

    Raises:
        RefusedError: with this message, and the parameter's name.
    """
    if not condition:
        raise RefusedError(Failure(status, message, param=param))


def whole_number(value: object, low: int, high: int | None = None) -> bool:
    """Return True if a value is a whole number within bounds.

    ``True`` is not one.
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= low and (high is None or value <= high)


def within(value: object, low: float, high: float) -> bool:
    """Return True if a value is a number within bounds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def texts(value: object) -> bool:
    """Return True if a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def unknown(body: Mapping[str, Any], known: Collection[str]) -> str | None:
    """Return the first key of the body that the vendor does not know."""
    return next((name for name in body if name not in known), None)


def names(text: str) -> frozenset[str]:
    """Return the names in a text that lists them."""
    return frozenset(text.split())


def tool_name(value: object) -> bool:
    """Return True if a value can name a tool."""
    return isinstance(value, str) and _TOOL_NAME.match(value) is not None


# OpenAI embeddings, for any text: the same vectors at every call and on every machine.
#
# Source of the shapes: https://platform.openai.com/docs/api-reference/embeddings


def embed(text: str, dimensions: int) -> list[float]:
    """Return a unit vector for a text, the same on every machine.

    Texts that share words are nearer to each other.
    """
    vector = [0.0] * dimensions
    for word in text.lower().split() or [""]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        vector[int.from_bytes(digest[:4], "big") % dimensions] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else [1.0] + [0.0] * (dimensions - 1)


def respond_embeddings(body: Any, dimensions: int) -> tuple[int, dict[str, object]]:
    """Return the tokens taken, and the list of embeddings.

    Embeddings have ``dimensions`` numbers where the request does not set another length.

    Raises:
        RefusedError: OpenAI would not take the request either.
    """
    need(isinstance(body, dict), "the body is not a JSON object")
    model, given = body.get("model"), body.get("input")
    need(isinstance(model, str) and model, "you must provide a model parameter", "model")
    texts = [given] if isinstance(given, str) else given
    good = isinstance(texts, list) and texts and all(isinstance(text, str) and text for text in texts)
    need(good, "input must be a text or a list of texts, none of them empty", "input")
    asked = body.get("dimensions", dimensions)
    need(whole_number(asked, 1), "dimensions must be a whole number above 0", "dimensions")
    vectors: list[Any] = [embed(text, asked) for text in texts]
    if body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{asked}f", *vector)).decode() for vector in vectors]
    taken = sum(words(text) for text in texts)
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": taken, "total_tokens": taken}
    return taken, {"object": "list", "data": data, "model": model, "usage": usage}


# Rate limit of requests and tokens in a sliding window, with the peak use of it.


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Most requests and tokens in a window of ``window_s`` seconds.

    None is no limit.
    """

    rpm: int | None = None
    tpm: int | None = None
    window_s: float = 60.0


class Window:
    """Use of the rate limit in the last ``window_s`` seconds.

    ``peak`` is the most that the window ever held.
    """

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.peak = (0, 0)
        self._taken: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def take(self, tokens: int, now: float) -> float | None:
        """Take one request with its tokens, if the limit permits it.

        Returns None, or the seconds until there may be room for it.
        """
        while self._taken and self._taken[0][0] + self.limit.window_s <= now:
            self._tokens -= self._taken.popleft()[1]
        wait = self._wait(tokens, now)
        if wait is None:
            self._taken.append((now, tokens))
            self._tokens += tokens
            self.peak = (max(self.peak[0], len(self._taken)), max(self.peak[1], self._tokens))
        return wait

    def _wait(self, tokens: int, now: float) -> float | None:
        rpm, tpm, window_s = self.limit.rpm, self.limit.tpm, self.limit.window_s
        too_many = 0 if rpm is None else len(self._taken) + 1 - rpm
        too_much = 0 if tpm is None else self._tokens + tokens - tpm
        if too_many <= 0 and too_much <= 0:
            return None
        for taken_at, freed in self._taken:  # the oldest leave the window first
            too_many, too_much = too_many - 1, too_much - freed
            if too_many <= 0 and too_much <= 0:
                return taken_at + window_s - now
        return window_s  # larger than the limit itself, so it never fits


# Recorded requests, and their counts.


@dataclass(slots=True)  # not frozen: the result of a request is known later
class RecordedRequest:
    """Request as it arrived, and its result.

    Attributes:
        method: of HTTP.
        path: with the query, as sent.
        headers: names in lower case.
        body: the parsed JSON, or None where it was not JSON.
        at: when it arrived, ``time.time()``.
        status: HTTP status that was answered; None until then.
        charged: billed input and output tokens, whether or not the client stayed for the answer.
        ended: when the answer was sent or aborted, ``time.time()``; None until then.
        disconnected: true if the client left before the answer was complete.
        content: the bytes of the body.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at: float = field(default_factory=time.time)
    status: int | None = None
    charged: tuple[int, int] = (0, 0)
    ended: float | None = None
    disconnected: bool = False
    content: bytes = field(default=b"", repr=False)


class Records:
    """Most recent requests, and counts of all requests.

    Only the server's thread writes; others may read.
    """

    def __init__(self, keep: int | None) -> None:
        self._keep = keep
        self.clear()

    def clear(self) -> None:
        """Remove everything but requests in flight."""
        self.requests: deque[RecordedRequest] = deque(maxlen=self._keep)
        self.count = self.disconnected = self.input_tokens = self.output_tokens = 0
        self.in_flight = getattr(self, "in_flight", 0)
        self.most_in_flight = self.in_flight
        self.statuses: Counter[int] = Counter()

    def begin(self, record: RecordedRequest) -> None:
        """Record that a request arrived."""
        self.requests.append(record)
        self.count += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def finish(self, record: RecordedRequest) -> None:
        """Record that the answer to a request was sent or aborted."""
        record.ended = time.time()
        self.in_flight -= 1
        self.disconnected += record.disconnected
        if record.status is not None:
            self.statuses[record.status] += 1

    def stats(self) -> dict[str, Any]:
        """Return the counts, JSON-ready."""
        return {
            "requests": self.count,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "disconnected": self.disconnected,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }


# Minimal instance of a JSON schema (https://json-schema.org/draft/2020-12).
#
# It is the default answer to a request for structured output.

_DEEPEST = 16
_LONGEST = 100
_MOST_VALUES = 10_000
"""Most values of an instance; a schema of a few lines can ask for 100^16."""
_MOST_CHARACTERS = 100_000
"""Most characters of one string."""
_FORMATS = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "a@example.com",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "duration": "PT0S",
    "hostname": "example.com",
}


def instance(schema: Mapping[str, Any], number: int | None = None) -> Any:
    """Return a minimal value that the schema allows.

    With a ``number`` each number of the value, and each choice that has it, is this one where the schema allows it.

    It supports types, ``enum``, ``const``, ``$ref`` within the schema, ``anyOf``, ``oneOf``, ``allOf``, required and
    strict properties, lengths and bounds; patterns are ignored. Gemini's upper-case types are accepted.

    Raises:
        RefusedError: it is not a schema.
    """
    try:
        return _value(schema, _Root(schema, number), 0)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
        raise RefusedError(Failure(400, "Invalid schema: it is not a JSON schema that can be followed.")) from None


@dataclass(slots=True)
class _Root:
    """Root schema, requested number, and remaining budget of values."""

    schema: Mapping[str, Any]
    number: int | None = None
    left: int = _MOST_VALUES

    def count(self) -> None:
        """Count a value against the budget.

        Raises:
            RefusedError: there are too many.
        """
        self.left -= 1
        if self.left < 0:
            raise RefusedError(Failure(400, f"Invalid schema: its smallest value has over {_MOST_VALUES:,} parts."))


def _value(schema: Any, root: _Root, depth: int) -> Any:
    root.count()
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return None
    if "$ref" in schema:
        return _value(_referred(str(schema["$ref"]), root.schema), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        wanted = (choice for choice in schema["enum"] if root.number is not None and str(choice) == str(root.number))
        return next(wanted, schema["enum"][0])
    for choice in ("anyOf", "any_of", "oneOf"):
        if schema.get(choice):
            return _value(_simplest(schema[choice], depth), root, depth + 1)
    if schema.get("allOf"):
        return _value(_merged(schema, root.schema), root, depth + 1)
    return _typed(schema, root, depth)


def _typed(schema: Mapping[str, Any], root: _Root, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    kind = str(kind).lower() if kind else "object" if "properties" in schema else "null"
    if kind == "object":
        properties = schema.get("properties") or {}
        wanted = schema.get("required", ())
        return {name: _value(properties.get(name, {}), root, depth + 1) for name in wanted}
    if kind == "array":
        length = min(int(schema.get("minItems", schema.get("min_items", 0)) or 0), _LONGEST)
        return [_value(schema.get("items", {}), root, depth + 1) for _ in range(length)]
    if kind in ("number", "integer"):
        if root.number is not None and _allows(schema, root.number):
            return root.number
        return _number(schema, whole=kind == "integer")
    if kind == "string":
        text = _FORMATS.get(str(schema.get("format")), "text")
        return text.ljust(min(int(schema.get("minLength", 0)), _MOST_CHARACTERS), "x")[: schema.get("maxLength")]
    return False if kind == "boolean" else None


def _allows(schema: Mapping[str, Any], number: int) -> bool:
    step = schema.get("multipleOf")
    return (
        schema.get("minimum", number) <= number <= schema.get("maximum", number)
        and schema.get("exclusiveMinimum", number - 1) < number < schema.get("exclusiveMaximum", number + 1)
        and not (step and number % step)
    )


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    step = schema.get("multipleOf") or (1 if whole else None)
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if above is not None:
        low = above + (step or ((below if below is not None else above + 2) - above) / 2)
    if below is not None and high is None:
        high = below - (step or 1)
    value = low if low is not None and low > 0 else 0
    if high is not None and high < value:
        value = high if low is None else low
    elif low is not None and low > value:
        value = low
    if step:
        value = step * math.ceil(value / step) if value > 0 or low is not None else step * math.floor(value / step)
    return int(value) if whole else value


def _simplest(options: Any, depth: int) -> Any:
    """Return the first option; deep down, one that nests no deeper.

    So a recursive schema ends.
    """
    flat = [option for option in options if isinstance(option, Mapping) and "$ref" not in option]
    return flat[-1] if depth > 4 and flat else options[0]


def _merged(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        part = _referred(str(part["$ref"]), root) if "$ref" in part else part
        properties = {**merged.get("properties", {}), **part.get("properties", {})}
        required = [*merged.get("required", ()), *part.get("required", ())]
        merged = {**merged, **part}
        if properties:
            merged |= {"properties": properties, "required": required}
    return merged


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        name = name.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) and name else found
    return found


# Default answer: an echo of the last user text, a tool call where one is required, or the smallest valid JSON.
#
# Instead of the text it may be a number alone, as a judge answers.


def respond_chat(ask: ChatRequest, number: int | None = None) -> Answer:
    """Return the default answer to a request. Tokens are words.

    Args:
        ask: the request.
        number: number to answer with, in the requested form; None repeats the last user text.
    """
    if ask.call is not None:
        name, parameters = ask.call
        arguments = instance(parameters, number)
        call = Call(name, arguments if isinstance(arguments, Mapping) else {})
        taken = 1 + len(pieces(call.text))
        return Answer(
            calls=(call,), finish="tool_calls", model=ask.model, input_tokens=ask.input_tokens, output_tokens=taken
        )
    if ask.schema is not None:
        text = json.dumps(instance(ask.schema, number), ensure_ascii=False)
    else:
        text = ask.text if number is None else str(number)
    text, finish, matched = _cut(text, ask)
    return Answer(
        text,
        finish=finish,
        matched=matched,
        model=ask.model,
        input_tokens=ask.input_tokens,
        output_tokens=len(pieces(text)),
    )


def _cut(text: str, ask: ChatRequest) -> tuple[str, Finish, str | None]:
    """Cut a text at its first stop text or at the word limit.

    Whichever comes first. Returns the finish reason and the matched stop text too.
    """
    places = [(text.find(stop), stop) for stop in ask.stop if stop in text]
    place, matched = min(places, default=(len(text), None))
    stopped = text[:place]
    if ask.max_tokens is not None and len(pieces(stopped)) > ask.max_tokens:
        return "".join(pieces(stopped)[: ask.max_tokens]), "length", None
    return stopped, "stop", matched
