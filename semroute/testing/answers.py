"""Refusing wrong requests: what the three wire formats check in the same way."""

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
    """A request that the server does not take, with the error that it answers."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def need(condition: object, message: str, param: str | None = None, *, status: int = 400) -> None:
    """Refuse the request unless the condition holds.

    Raises:
        RefusedError: with this message, and the parameter's name.
    """
    if not condition:
        raise RefusedError(Failure(status, message, param=param))


def whole_number(value: object, low: int, high: int | None = None) -> bool:
    """Whether a value is a whole number within bounds; ``True`` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= low and (high is None or value <= high)


def within(value: object, low: float, high: float) -> bool:
    """Whether a value is a number within bounds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def texts(value: object) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def unknown(body: Mapping[str, Any], known: Collection[str]) -> str | None:
    """The first key of the body that the vendor does not know."""
    return next((name for name in body if name not in known), None)


def names(text: str) -> frozenset[str]:
    """The names in a text that lists them."""
    return frozenset(text.split())


def tool_name(value: object) -> bool:
    """Whether a value can name a tool."""
    return isinstance(value, str) and _TOOL_NAME.match(value) is not None


# OpenAI's embeddings, for texts of any kind: the same vectors at every call and on every machine.
#
# Source of the shapes: https://platform.openai.com/docs/api-reference/embeddings


def embed(text: str, dimensions: int) -> list[float]:
    """A unit vector for a text, the same on every machine: texts that share words lie nearer to each other."""
    vector = [0.0] * dimensions
    for word in text.lower().split() or [""]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        vector[int.from_bytes(digest[:4], "big") % dimensions] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else [1.0] + [0.0] * (dimensions - 1)


def respond_embeddings(body: Any, dimensions: int) -> tuple[int, dict[str, object]]:
    """Tokens taken, and the list of embeddings, ``dimensions`` long where the request does not say.

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


# Requests and tokens in a sliding window: an honest rate limit, and the measure of how near a client came to one.


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What may be taken in every window of ``window_s`` seconds; None is no limit."""

    rpm: int | None = None
    tpm: int | None = None
    window_s: float = 60.0


class Window:
    """What was taken in the last ``window_s`` seconds. The most that it ever held is in ``peak``."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.peak = (0, 0)
        self._taken: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def take(self, tokens: int, now: float) -> float | None:
        """Take one request of so many tokens: None, or the seconds until there may be room for it."""
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
        return window_s  # larger than the limit itself: it never fits


# What the server saw: every request, and the sums.


@dataclass(slots=True)  # not frozen: how a request ended is known later
class RecordedRequest:
    """A request as it arrived, and how it ended.

    Attributes:
        method: of HTTP.
        path: with the query, as sent.
        headers: names in lower case.
        body: the parsed JSON, or None where it was not JSON.
        at: when it arrived, ``time.time()``.
        status: HTTP status that was answered; None until then.
        charged: input and output tokens that it is billed for, whether or not the client stayed for the answer.
        ended: when the answer was sent or given up, ``time.time()``; None until then.
        disconnected: whether the client left before the answer was complete.
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


class Records:
    """The last requests and the counts of all. Used from the server's thread alone, but for reading."""

    def __init__(self, keep: int | None) -> None:
        self._keep = keep
        self.clear()

    def clear(self) -> None:
        """Forget everything but what is in flight."""
        self.requests: deque[RecordedRequest] = deque(maxlen=self._keep)
        self.count = self.disconnected = self.input_tokens = self.output_tokens = 0
        self.in_flight = getattr(self, "in_flight", 0)
        self.most_in_flight = self.in_flight
        self.statuses: Counter[int] = Counter()

    def begin(self, record: RecordedRequest) -> None:
        """A request arrived."""
        self.requests.append(record)
        self.count += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def finish(self, record: RecordedRequest) -> None:
        """Its answer was sent or given up."""
        record.ended = time.time()
        self.in_flight -= 1
        self.disconnected += record.disconnected
        if record.status is not None:
            self.statuses[record.status] += 1

    def stats(self) -> dict[str, Any]:
        """The counts, ready for JSON."""
        return {
            "requests": self.count,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "disconnected": self.disconnected,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }


# The smallest value that a JSON schema allows (https://json-schema.org/draft/2020-12).
#
# It is the honest answer where a structured one is asked for.

_DEEPEST = 16
_LONGEST = 100
_MOST_VALUES = 10_000
"""Values of an instance: a schema of a few lines can ask for 100^16."""
_MOST_CHARACTERS = 100_000
"""Of one text."""
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
    """A value that the schema allows.

    With a ``number`` each number of the value, and each choice that has it, is this one where the schema allows it.

    It knows types, ``enum``, ``const``, ``$ref`` within the schema, ``anyOf``, ``oneOf``, ``allOf``, required and
    strict properties, lengths and bounds; of patterns it knows nothing. Gemini's upper-case types are understood.

    Raises:
        RefusedError: it is no schema.
    """
    try:
        return _value(schema, _Root(schema, number), 0)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
        raise RefusedError(Failure(400, "Invalid schema: it is not a JSON schema that can be followed.")) from None


@dataclass(slots=True)
class _Root:
    """The whole schema, the number that is wanted, and the values that an instance of it may still have."""

    schema: Mapping[str, Any]
    number: int | None = None
    left: int = _MOST_VALUES

    def count(self) -> None:
        """Count a value.

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
    """The first option; deep down one that leads no deeper, so that a recursive schema ends."""
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


# The honest answer: the last user text again, a tool call where one is demanded, or the smallest JSON that fits.
#
# In place of the text it may be a number alone, as a judge answers.


def respond_chat(ask: ChatRequest, number: int | None = None) -> Answer:
    """Answer a request as it asks to be answered. Tokens are words.

    Args:
        ask: the request.
        number: what to answer with, in the form that is asked for; None repeats the last user text.
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
    """The text up to the first stop text or the last allowed word, whichever comes first, and why it ends there."""
    places = [(text.find(stop), stop) for stop in ask.stop if stop in text]
    place, matched = min(places, default=(len(text), None))
    stopped = text[:place]
    if ask.max_tokens is not None and len(pieces(stopped)) > ask.max_tokens:
        return "".join(pieces(stopped)[: ask.max_tokens]), "length", None
    return stopped, "stop", matched
