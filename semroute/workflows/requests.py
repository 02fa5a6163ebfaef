"""Reader of an application's requests, in the formats of vendors and logs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO, cast

from semroute.data.examples import shortened
from semroute.data.rows import kind
from semroute.data.tabular import SHOWN_STDIN, STDIN, Row, TableColumns, column_key, iter_rows
from semroute.dispatch.validation import valid_request
from semroute.errors import DataError, InputError, SemrouteError
from semroute.router.query import as_messages, routable_text
from semroute.types import Message, Query, Request, Tool, Usage

QUERIES = ("messages", "query", "prompt", "input", "text", "question", "message", "utterance", "request")
"""Keys of the query, in order of precedence."""
_ENVELOPES = ("body", "request", "kwargs", "payload")
"""Keys under which batch files and logs hold a whole request."""
_TIMES = ("timestamp", "created_at", "created", "at", "time", "datetime", "date", "start_time", "starttime", "ts")
_ANSWERS = ("response", "answer", "completion", "output", "assistant")
_INPUT_TOKENS = ("prompt_tokens", "input_tokens")
_OUTPUT_TOKENS = ("completion_tokens", "output_tokens")
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MONTHLY = ("per_month", "requests_per_month", "count_per_month", "monthly")
_SYSTEMS = ("system", "instructions")
KNOWN = frozenset(
    {
        *QUERIES, *_ENVELOPES, *_TIMES, *_ANSWERS, *_INPUT_TOKENS, *_OUTPUT_TOKENS, *_LIMITS, *_MONTHLY, *_SYSTEMS,
        "model", "usage", "tools", "functions", "response_format", "n", "count", "metadata", "logprobs",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RequestRow:
    """Request of an application, with the other data of its row.

    Attributes:
        request: the request.
        model: the model that the row names; None if it names none.
        usage: counted tokens; a number below 0 is unknown.
        answer: text of the recorded answer; None if there is none.
        at: time of the request, seconds since the epoch.
        whole_day: True if ``at`` is a day without a time.
        count: number of requests that the row represents.
        monthly: True if ``count`` is a number a month.
        line: 1-based line, of Parquet the row.
    """

    request: Request
    model: str | None = None
    usage: Usage | None = None
    answer: str | None = None
    at: float | None = None
    whole_day: bool = False
    count: float = 1.0
    monthly: bool = False
    line: int = 0


NOT_COUNTED = -1
"""Tokens in ``usage`` that the row does not have."""


def read_requests(
    source: Path | str, stdin: BinaryIO, *, text: str | None = None, encoding: str | None = None
) -> Iterator[RequestRow | SemrouteError]:
    """Yield the requests of a file, and an error for each row without one.

    Args:
        source: the file; ``-`` is standard input.
        stdin: standard input.
        text: key or column of the query; None takes the first of :data:`QUERIES`.
        encoding: encoding of the file; None takes UTF-8, or UTF-16 with a byte order mark.
    """
    columns = TableColumns(KNOWN, text or "query", encoding)
    shown = SHOWN_STDIN if str(source) == STDIN else Path(source)
    for found in iter_rows(source, columns, stdin):
        if isinstance(found, SemrouteError):
            yield found
            continue
        line, row = found
        try:
            yield parse_row(row, line, text)
        except InputError as error:
            yield DataError(str(error), path=shown, line=line)


def parse_row(row: Row, line: int = 0, text: str | None = None) -> RequestRow:
    """Parse one row.

    Raises:
        InputError: the row has no query, or a value in it cannot be used.
    """
    outer = {column_key(key): value for key, value in row.items() if not _is_missing(value)}
    envelope = next((found for key in _ENVELOPES if (found := _object(outer.get(key))) is not None), None)
    inner = outer if envelope is None else {column_key(key): v for key, v in envelope.items() if v is not None}
    response = _response(outer)
    messages = _messages(row, inner, text)
    answer = _answer(outer, response)
    if answer is None and len(messages) > 1 and messages[-1].get("role") == "assistant":
        # Rows of training data end with the answer.
        answer, messages = _text_of(messages[-1]), messages[:-1]
    request = valid_request(
        Request(
            messages,
            max_tokens=_first_integer(inner, _LIMITS),
            tools=tuple(_tools(inner)),
            json_schema=_schema(inner.get("response_format")),
            n=_integer("n", inner.get("n")),
            metadata=_metadata(inner.get("metadata")),
        )
    )
    routable_text(request.messages)
    monthly = next((key for key in _MONTHLY if key in outer), None)
    at, whole_day = _time(outer)
    return RequestRow(
        request=request,
        model=_model(inner),
        usage=_usage(outer, response),
        answer=answer,
        at=at,
        whole_day=whole_day,
        count=_count(monthly or "count", outer.get(monthly or "count")),
        monthly=monthly is not None,
        line=line,
    )


def _messages(row: Row, inner: Mapping[str, object], text: str | None) -> tuple[Message, ...]:
    """Return the query as messages, the system message first."""
    if text is not None:
        key, value = text, row.get(text, inner.get(column_key(text)))
        if value is None:
            raise InputError(f"has no key {shortened(text)} (its keys: {_keys(row)}); name another one with --text")
    else:
        there = [name for name in QUERIES if name in inner]
        key = next((name for name in there if inner[name] != ""), there[0] if there else "")
        if not key:
            raise InputError(
                f'has no "query", "messages" or "prompt" (its keys: {_keys(row)}); name the key with --text'
            )
        value = inner[key]
    if isinstance(value, str) and (key == "messages" or value.lstrip().startswith('[{"')):
        value = _decoded(key, value)
    if not isinstance(value, str | list | tuple):
        raise InputError(f'"{key}" must be text or a list of chat messages, not {kind(value)}')
    if isinstance(value, list) and key == "prompt" and all(isinstance(part, str) for part in value):
        value = "\n".join(value)
    asked = as_messages(cast(Query, value if isinstance(value, str) else [_as_message(item) for item in value]))
    system = next((inner[name] for name in _SYSTEMS if name in inner), None)
    return asked if system is None else ({"role": "system", "content": system}, *asked)


def _as_message(item: object) -> object:
    """Return an item of a list of messages, with a role.

    Items of OpenAI's Responses API without a role get one.
    """
    if isinstance(item, str):
        return {"role": "user", "content": item}
    if isinstance(item, Mapping) and "role" not in item and isinstance(item.get("type"), str):
        is_result = str(item["type"]).endswith("_output")
        said = item.get("output" if is_result else "arguments")
        return {"role": "tool" if is_result else "assistant", "content": said if isinstance(said, str) else ""}
    return item


def _decoded(key: str, value: str) -> object:
    """Decode messages stored as JSON text in a table."""
    try:
        return json.loads(value)
    except RecursionError:
        raise InputError(f'"{key}" holds JSON that is nested too deeply') from None
    except ValueError as error:
        raise InputError(f'"{key}" must be a list of chat messages as JSON: {error}') from None


def _tools(inner: Mapping[str, object]) -> Iterator[Tool]:
    listed = _object_or_list(inner.get("tools")) or _object_or_list(inner.get("functions")) or []
    if not isinstance(listed, list):
        raise InputError(f'"tools" must be a list, not {kind(listed)}')
    for item in listed:
        if not isinstance(item, Mapping):
            raise InputError(f'"tools" must list objects, not {kind(item)}')
        function = item.get("function")
        said = function if isinstance(function, Mapping) else item
        name = said.get("name") or said.get("type")
        if not isinstance(name, str):
            raise InputError('a tool in "tools" has no name')
        schema = said.get("parameters", said.get("input_schema"))
        description = said.get("description")
        yield Tool(
            name,
            description if isinstance(description, str) else "",
            schema if isinstance(schema, Mapping) else {},
        )


def _schema(value: object) -> Mapping[str, object] | None:
    form = _object(value)
    held = None if form is None else _object(form.get("json_schema"))
    return None if held is None else _object(held.get("schema"))


def _metadata(value: object) -> dict[str, str]:
    found = _object(value) or {}
    return {key: item for key, item in found.items() if isinstance(item, str)}


def _model(inner: Mapping[str, object]) -> str | None:
    value = inner.get("model")
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f'"model" must be a name, not {kind(value)}')
    return value.strip() or None


def _response(outer: Mapping[str, object]) -> Mapping[str, object] | None:
    """Return the recorded response, in OpenAI's shape or from a batch row."""
    found = next((held for key in _ANSWERS if (held := _object(outer.get(key))) is not None), None)
    body = None if found is None else _object(found.get("body"))
    return found if body is None else body


def _answer(outer: Mapping[str, object], response: Mapping[str, object] | None) -> str | None:
    if response is not None:
        choices = response.get("choices")
        first = _object(choices[0]) if isinstance(choices, list) and choices else None
        message = None if first is None else _object(first.get("message"))
        return _text_of(message if message is not None else response)
    said = next((value for key in _ANSWERS if isinstance(value := outer.get(key), str)), None)
    return said if said and said.strip() else None


def _text_of(message: Mapping[str, object]) -> str | None:
    """Return the text of an answer: its content, or its tool calls."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part["text"]) for part in content if isinstance(part, Mapping) and "text" in part)
    calls = message.get("tool_calls")
    called = json.dumps(calls, ensure_ascii=False, default=str) if calls else ""
    return (content if isinstance(content, str) else "") + called or None


def _usage(outer: Mapping[str, object], response: Mapping[str, object] | None) -> Usage | None:
    """Return the counted tokens, from ``usage`` or from separate columns."""
    found = _object(outer.get("usage"))
    if found is None and response is not None:
        found = _object(response.get("usage"))
    said = outer if found is None else found
    sent, received = _first_integer(said, _INPUT_TOKENS), _first_integer(said, _OUTPUT_TOKENS)
    if sent is None and received is None:
        return None
    details = _object(said.get("prompt_tokens_details") or said.get("input_tokens_details")) or {}
    cached = _integer("cached_tokens", details.get("cached_tokens")) or 0
    # Anthropic counts tokens read from and written to a cache apart from the input.
    read = _integer("cache_read_input_tokens", said.get("cache_read_input_tokens")) or 0
    written = _integer("cache_creation_input_tokens", said.get("cache_creation_input_tokens")) or 0
    if sent is None:
        return Usage(NOT_COUNTED, received or 0)
    return Usage(sent + read + written, NOT_COUNTED if received is None else received, cached + read, written)


def _time(outer: Mapping[str, object]) -> tuple[float | None, bool]:
    """Return the time since the epoch, and whether it is a day without a time.

    In seconds; (None, False) if there is none.
    """
    for key in _TIMES:
        value = outer.get(key)
        if isinstance(value, str):
            value = _written_time(value.strip())
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp(), False
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp(), True
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 1e8:
            # Seconds, milliseconds, microseconds or nanoseconds: up to the year 5138.
            return next((value / scale for scale in (1, 1e3, 1e6, 1e9) if value / scale < 1e11), None), False
    return None, False


def _written_time(text: str) -> datetime | date | float | None:
    try:
        return float(text)
    except ValueError:
        pass
    for parse in (date.fromisoformat, datetime.fromisoformat):
        try:
            return parse(text)
        except ValueError:
            continue
    return None


def _count(key: str, value: object) -> float:
    if value is None or value == "":
        return 1.0
    try:
        number = float(cast(float, value.replace(",", "") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not 0 <= number < 1e15:
        raise InputError(f'"{key}" must be a number of requests, not {shortened(str(value))}')
    return number


def _first_integer(values: Mapping[str, object], keys: tuple[str, ...]) -> int | None:
    return next((found for key in keys if (found := _integer(key, values.get(key))) is not None), None)


def _integer(key: str, value: object) -> int | None:
    """Return a non-negative integer; None for an empty value."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(cast(float, value))
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not number.is_integer() or not 0 <= number < 2**31:
        raise InputError(f'"{key}" must be a whole number, not {shortened(str(value))}')
    return int(number)


def _object(value: object) -> Mapping[str, object] | None:
    """Return a mapping, decoded from JSON text if need be; None otherwise."""
    found = _object_or_list(value)
    return found if isinstance(found, Mapping) else None


def _object_or_list(value: object) -> object:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return None if isinstance(value, str) else value


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _keys(row: Row) -> str:
    return shortened(", ".join(map(str, row)))
