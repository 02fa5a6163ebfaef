"""Input validation of requests, constraints and candidates.

Every public entry point validates its arguments here. The result consists of plain ``dict``, ``list``, ``tuple``,
``str``, ``int``, ``float``, ``bool`` and None, finite, and bounded in depth, count and bytes, so that later code need
not check again. One pass over the values; only converted values are copied. All faults are
:class:`~semroute.errors.InputError`, those of messages :class:`~semroute.errors.QueryError`, and name the path of the
value, such as ``messages[3].content[0].image_url``.

Only shapes that no server accepts are rejected. Limits of one wire format are left to its adapter, since another
deployment may accept the request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import fields, replace
from itertools import islice
from numbers import Integral, Real
from operator import is_
from typing import Any, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

from semroute.dispatch.constraints import ANYTHING, PREFERENCES, Constraints
from semroute.dispatch.values import FaultError, Field, ValueWalk, checked, error_of, read_value, type_name
from semroute.errors import InputError, QueryError
from semroute.types import Message, NativeBody, Query, Request, Tool
from semroute.types.anthropic import has_blocks, openai_messages
from semroute.types.openai import ShapeError, is_response_format, model_schema, schema_of, tool_choice_of, tool_of

MAX_MESSAGES = 100_000
"""Messages of one conversation; a context window of a million tokens holds 250,000 empty ones."""

MAX_QUERIES = 1_000_000
"""Queries of one batch, whose scores are all in memory at once."""

MAX_TOKENS = 2**31 - 1
"""Largest token count: servers store ``max_tokens`` in 32 signed bits."""

MAX_TEMPERATURE = 100.0
"""Largest temperature: vendors accept up to 1 or 2, self-hosted servers more."""

MAX_PENALTY = 100.0
"""Largest magnitude of a penalty: vendors accept up to 2, self-hosted servers more."""

MAX_ALTERNATIVES = 128
"""Most answers to one request: OpenAI's limit."""

MAX_NUMBER = 1e12
"""Largest limit in USD or seconds."""

MAX_NAME = 512
"""Characters of the name of a model, a deployment, a region or a tool; bounded because error messages repeat names."""

_Checks: TypeAlias = "tuple[tuple[str, Field, object], ...]"
_T = TypeVar("_T")


def valid_request(query: Query | Request) -> Request:
    """Return a query, or a request, as a request of plain values.

    Raises:
        QueryError: it is neither text nor messages, or a message has a shape that no server accepts.
        InputError: another field of the request cannot be used.
    """
    walk, is_request = ValueWalk(), issubclass(type(query), Request)
    try:
        if not is_request:
            return Request(cast("tuple[Message, ...]", _messages(walk, query)))
        request = _with_schema(cast(Request, query))
        changes = _changes(walk, request, _OF_A_REQUEST)
        return replace(request, **changes) if changes else request
    except FaultError as fault:
        if not is_request and fault.path:
            fault.path.append("messages")
        raise error_of(fault, QueryError if fault.path[-1:] in ([], ["messages"]) else InputError) from None
    except RecursionError:
        raise QueryError("the query is nested too deeply for what is left of Python's stack") from None


def _with_schema(request: Request) -> Request:
    """Return the request with a JSON schema in place of what gave it.

    That is a pydantic model class or a ``response_format``.

    The name and the flags go with the options; options that the request has itself take precedence.
    """
    try:
        given: Any = request.json_schema
    except Exception:
        return request  # the check of each field reports what cannot be read
    if given is None:
        return request
    try:
        if issubclass(type(given), type) and hasattr(given, "model_json_schema"):
            schema: Mapping[str, object]
            schema, options = read_value(lambda: model_schema(given), given.__name__)
        elif issubclass(type(given), Mapping) and read_value(lambda: is_response_format(given), type_name(given)):
            plain = cast("dict[str, Any]", ValueWalk().plain(given))
            schema, options = _shaped(schema_of, plain)
        else:
            return request
    except FaultError as fault:
        fault.path.append("json_schema")
        raise
    own = request.json_schema_options
    merged = {**options, **own} if issubclass(type(own), dict) else own
    return replace(request, json_schema=schema, json_schema_options=merged)


def valid_queries(queries: Sequence[Query | Request]) -> list[Request]:
    """Return every query of a batch as a request of plain values.

    Raises:
        InputError: as :func:`valid_request`; the message names the position in the batch.
    """
    kind = type(queries)
    if issubclass(kind, str):
        raise QueryError("route_many takes a list of queries, not one string; give that to route")
    if kind not in (list, tuple) and not _is_sized_sequence(kind):
        raise QueryError(f"route_many takes a list of queries, not {kind.__name__}; make a list of it")
    try:
        items = read_value(lambda: list(islice(cast(Iterable[Any], queries), MAX_QUERIES + 1)), kind.__name__)
    except FaultError as fault:
        raise error_of(fault, QueryError) from None
    if len(items) > MAX_QUERIES:
        raise QueryError(f"there are more than {MAX_QUERIES:,} queries: route them in parts")
    found: list[Request] = []
    for place, query in enumerate(items):
        try:
            found.append(valid_request(query))
        except InputError as error:
            raise type(error)(f"queries[{place}]: {error}") from None
    return found


def valid_constraints(
    constraints: Constraints | None, model: str | None = None, prefer: str | None = None
) -> Constraints:
    """Return the constraints in plain values, with the given overrides.

    Raises:
        InputError: one of them cannot be used.
    """
    if constraints is None:
        constraints = ANYTHING
    elif not issubclass(type(constraints), Constraints):
        raise InputError(f"constraints: is {type_name(constraints)}, not Constraints (semroute.dispatch.Constraints)")
    walk = ValueWalk()
    try:
        try:
            changes = {} if constraints is ANYTHING else _changes(walk, constraints, _OF_CONSTRAINTS)
        except FaultError as fault:
            fault.path.append("constraints")
            raise
        if model is not None:
            changes["model"] = checked(walk, "model", model, _word)
        if prefer is not None:
            changes["preference"] = checked(walk, "prefer", prefer, _LIMITS["preference"])
    except FaultError as fault:
        raise error_of(fault, InputError) from None
    return replace(constraints, **changes) if changes else constraints


def valid_candidates(candidates: Sequence[str]) -> tuple[str, ...]:
    """Return the names of models and groups as a tuple of strings.

    Raises:
        InputError: they are not a sequence of names.
    """
    try:
        return cast("tuple[str, ...]", checked(ValueWalk(), "candidates", candidates, _names))
    except FaultError as fault:
        raise error_of(fault, InputError) from None


def _changes(walk: ValueWalk, owner: object, checks: _Checks) -> dict[str, Any]:
    """Return the fields of a dataclass to replace by plain values."""
    changes: dict[str, Any] = {}
    name = ""
    try:
        for name, check, default in checks:
            try:
                value = getattr(owner, name)
            except Exception as error:  # a property of a subclass, or a field that was never set
                raise FaultError(f"cannot be read: {type(error).__name__}") from None
            if value is default:
                continue  # valid; most fields of a request are unset
            valid = check(walk, value)
            if valid is not value:
                changes[name] = valid
    except FaultError as fault:
        fault.path.append(name)
        raise
    return changes


def _shaped(read: Callable[[Any], _T], value: Any) -> _T:
    """Read one of OpenAI's shapes; report a wrong one as a fault."""
    try:
        return read(value)
    except ShapeError as error:
        raise FaultError(error.found, *error.path) from None


def _is_sized_sequence(kind: type) -> bool:
    """Return True for sized, ordered types, including arrays and columns."""
    if issubclass(kind, bytes | bytearray | memoryview | Mapping | Set):
        return False
    return issubclass(kind, Sequence) or all(hasattr(kind, name) for name in ("__len__", "__iter__", "__getitem__"))


def _messages(walk: ValueWalk, value: Any) -> object:
    kind = type(value)
    if issubclass(kind, str):
        return ({"role": "user", "content": walk.plain(value)},)
    if kind is not tuple and kind is not list:
        if not issubclass(kind, Sequence) or issubclass(kind, bytes | bytearray | memoryview):
            raise FaultError(f"a query is a string or a list of chat messages, not {kind.__name__}")
        value = read_value(lambda: list(islice(value, MAX_MESSAGES + 1)), kind.__name__)
    if len(value) > MAX_MESSAGES:
        raise FaultError(f"has more than {MAX_MESSAGES:,} messages; leave out the oldest")
    messages: list[Any] = [checked(walk, place, given, _message) for place, given in enumerate(value)]
    if any(type(message.get("content")) is not str and has_blocks(message) for message in messages):
        found = tuple(each for message in messages for each in _in_openais_shape(message))
        # Results alone are a user's turn only in Anthropic's shape, and routing needs one.
        if any(message["role"] == "user" for message in found):
            return found
    is_plain = type(value) is tuple and all(map(is_, messages, value))
    return value if is_plain else tuple(messages)


def _in_openais_shape(message: dict[str, Any]) -> Iterable[dict[str, Any]]:
    return openai_messages(message) if has_blocks(message) else (message,)


def _message(walk: ValueWalk, given: Any) -> object:
    message: Any = walk.plain(given, 1)
    if type(message) is not dict:
        raise FaultError(f'a chat message is a mapping with "role" and "content", not {type_name(message)}')
    role = message.get("role")
    if type(role) is not str or not role:
        found = "is missing" if role is None else f"is {type_name(role)}" if type(role) is not str else "is empty"
        raise FaultError(f'{found}; it is text, such as "user"', "role")
    content = message.get("content")
    if type(content) is list or type(content) is tuple:
        for place, part in enumerate(content):
            if type(part) is dict:
                _part(part, place)
            elif type(part) is not str:
                raise FaultError(f"a part is a mapping with a type, not {type_name(part)}", "content", place)
    elif content is not None and type(content) is not str:
        raise FaultError(f"a message's content is text or a list of parts, not {type_name(content)}", "content")
    if message.get("tool_calls"):
        _tool_calls(message["tool_calls"])
    return message


def _part(part: dict[str, Any], place: int) -> None:
    kind = part.get("type")
    if kind is not None and type(kind) is not str:
        raise FaultError(f"is {type_name(kind)}, not text", "content", place, "type")
    if kind == "text" and type(part.get("text")) is not str:
        raise FaultError(f"is {type_name(part.get('text'))}, not text", "content", place, "text")
    if kind == "image_url":
        given = part.get("image_url")
        url = given.get("url") if type(given) is dict else given
        if type(url) is not str:
            shape = "an address, or a mapping with its url"
            raise FaultError(f"is {type_name(given)}, not {shape}", "content", place, "image_url")
        _address(url, place)


def _address(url: str, place: int) -> None:
    try:
        # isascii() needs no scan, and a data: URL is all ASCII.
        if not url.isascii():
            url.encode()
        if url[:5].lower() != "data:":
            urlsplit(url)
    except ValueError:
        raise FaultError("is not an address that can be written or split", "content", place, "image_url") from None


def _tool_calls(calls: Any) -> None:
    if type(calls) not in (list, tuple):
        raise FaultError(f"is {type_name(calls)}, not a list of calls", "tool_calls")
    for place, call in enumerate(calls):
        if type(call) is not dict:
            raise FaultError(f"a call is a mapping, not {type_name(call)}", "tool_calls", place)
        function = call.get("function")
        if function is not None and type(function) is not dict:
            raise FaultError(f"is {type_name(function)}, not a mapping", "tool_calls", place, "function")


def _whole(least: int, most: int) -> Field:
    def check(walk: ValueWalk, value: Any) -> object:
        if value is None:
            return None
        if issubclass(type(value), bool) or not issubclass(type(value), Integral):
            raise FaultError(f"is {type_name(value)}, not a whole number")
        number = read_value(lambda: int(value), type_name(value))
        if not least <= number <= most:
            raise FaultError(f"is not from {least:,} to {most:,}; leave it out for no limit of your own")
        return value if type(value) is int else number

    return check


def _number(most: float, remedy: str, *, least: float = 0.0) -> Field:
    def check(walk: ValueWalk, value: Any) -> object:
        if value is None:
            return None
        kind: type = type(value)
        if kind is bool or not issubclass(kind, Real):
            raise FaultError(f"is {kind.__name__}, not a number")
        try:
            number = read_value(lambda: float(value), kind.__name__)
        except FaultError:
            number = math.inf  # an integer that no float can hold
        if not least <= number <= most:
            raise FaultError(f"is not from {least:g} to {most:g}; {remedy}")
        return value if type(value) in (int, float) else number

    return check


def _flag(walk: ValueWalk, value: Any) -> object:
    if type(value) is not bool:
        raise FaultError(f"is {type_name(value)}, not True or False")
    return value


def _word(walk: ValueWalk, value: Any) -> object:
    """Check a name; None is allowed."""
    if value is None or (type(value) is str and 0 < len(value) <= MAX_NAME and value.isprintable()):
        return value
    if not issubclass(type(value), str):
        raise FaultError(f"is {type_name(value)}, not a name")
    text = cast(str, walk.plain(value))
    if not text:
        raise FaultError("is empty; leave it out for none")
    if len(text) > MAX_NAME or not text.isprintable():
        raise FaultError(f"is not a name: up to {MAX_NAME} characters that can be printed")
    return text


def _names(walk: ValueWalk, value: Any) -> tuple[str, ...]:
    kind = type(value)
    is_list = kind is tuple or (kind is not str and issubclass(kind, Sequence | Set))
    if not is_list or issubclass(kind, bytes | bytearray | memoryview):
        raise FaultError(f"is {kind.__name__}, not a list of names")
    items = value if kind is tuple else read_value(lambda: tuple(islice(value, walk.values + 1)), kind.__name__)
    walk.count(len(items))
    names = [checked(walk, place, item, _named) for place, item in enumerate(items)]
    return items if kind is tuple and all(map(is_, names, items)) else tuple(cast("list[str]", names))


def _name_set(walk: ValueWalk, value: Any) -> object:
    names = _names(walk, value)
    return value if type(value) is frozenset else frozenset(names)


def _stop(walk: ValueWalk, value: Any) -> object:
    if issubclass(type(value), str):
        value = (value,)
    kind = type(value)
    if not issubclass(kind, Sequence) or issubclass(kind, bytes | bytearray | memoryview):
        raise FaultError(f"is {kind.__name__}, not a text or a list of texts")
    texts = walk.plain(value)
    for place, text in enumerate(cast(Sequence[object], texts)):
        if type(text) is not str:
            raise FaultError(f"is {type_name(text)}, not text", place)
    return texts if type(texts) is tuple else tuple(cast(Sequence[str], texts))


def _tools(walk: ValueWalk, value: Any) -> object:
    kind = type(value)
    if not issubclass(kind, Sequence) or issubclass(kind, str | bytes | bytearray | memoryview):
        raise FaultError(f"is {kind.__name__}, not a list of Tool")
    items = value if kind is tuple else read_value(lambda: tuple(islice(value, walk.values + 1)), kind.__name__)
    walk.count(len(items))
    tools = [checked(walk, place, item, _tool) for place, item in enumerate(items)]
    return value if kind is tuple and all(map(is_, tools, items)) else tuple(cast("list[Tool]", tools))


def _tool(walk: ValueWalk, item: Any) -> object:
    if not issubclass(type(item), Tool):
        try:
            found = walk.plain(item, 1)
        except FaultError as fault:
            if fault.path:
                raise
            found = item
        if type(found) is not dict:
            shape = '{"type": "function", "function": {"name": …}}'
            raise FaultError(f"is {type_name(item)}, neither a Tool(name, description, parameters) nor {shape}")
        return _shaped(tool_of, found)
    changes = _changes(walk, item, _OF_A_TOOL)
    return replace(item, **changes) if changes else item


def _tool_choice(walk: ValueWalk, value: Any) -> object:
    if value is None or issubclass(type(value), str):
        return _word(walk, value)
    found = walk.plain(value)
    if type(found) is not dict:
        raise FaultError(f"is {type_name(value)}, neither a name nor one of OpenAI's mappings")
    choice = _shaped(tool_choice_of, found)
    return _word(walk, choice) if type(choice) is str else choice


def _text(walk: ValueWalk, value: Any) -> object:
    if not issubclass(type(value), str):
        raise FaultError(f"is {type_name(value)}, not text")
    return walk.plain(value)


def _named(walk: ValueWalk, value: Any) -> object:
    if value is None:
        raise FaultError("is NoneType, not a name")
    return _word(walk, value)


def _one_of(*words: str | None) -> Field:
    def check(walk: ValueWalk, value: Any) -> object:
        word = _word(walk, value)
        if word not in words:
            raise FaultError(f"is none of {', '.join(filter(None, words))}")
        return word

    return check


def _mapping_of(what: str) -> Field:
    def check(walk: ValueWalk, value: Any) -> object:
        if type(value) is not dict and not issubclass(type(value), Mapping):
            raise FaultError(f"is {type_name(value)}, not a mapping {what}")
        return walk.plain(value)

    return check


_schema = _mapping_of("(a JSON schema)")


def _schema_options(walk: ValueWalk, value: Any) -> object:
    options = cast("dict[str, object]", _mapping_of("with name, description or strict")(walk, value))
    for name, option in options.items():
        if name not in ("name", "description", "strict"):
            raise FaultError("is none of name, description and strict", name)
        wanted = bool if name == "strict" else str
        if type(option) is not wanted:
            raise FaultError(f"is {type_name(option)}, not {wanted.__name__}", name)
    return options


def _optional(check: Field) -> Field:
    return lambda walk, value: None if value is None else check(walk, value)


def _metadata(walk: ValueWalk, value: Any) -> object:
    known = cast("dict[str, object]", _mapping_of("of texts to texts")(walk, value))
    for key, text in known.items():
        if type(text) is not str:
            raise FaultError(f"is {type_name(text)}, not text", key)
    return known


def _native(walk: ValueWalk, value: Any) -> object:
    """Check the type of a vendor's own body.

    Its values are checked when it is written as JSON.
    """
    if value is None or (issubclass(type(value), NativeBody) and issubclass(type(value.body), dict)):
        return value
    raise FaultError(f"is {type_name(value)}, not a NativeBody with a body that is a dict")


_TOOL_FIELDS: Mapping[str, Field] = {
    "name": _named,
    "description": _text,
    "parameters": _schema,
    "cache_control": _optional(_schema),
    "strict": _optional(_flag),
    "definition": _optional(_schema),
}

_OWN = "leave it out for the provider's own"

_FIELDS: Mapping[str, Field] = {
    "messages": _messages,
    "max_tokens": _whole(1, MAX_TOKENS),
    "temperature": _number(MAX_TEMPERATURE, _OWN),
    "stop": _stop,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "json_schema": _optional(_schema),
    "json_schema_options": _schema_options,
    "logprobs": _flag,
    "metadata": _metadata,
    "top_p": _number(1.0, _OWN),
    "top_k": _whole(0, MAX_TOKENS),
    "seed": _whole(-(2**63), 2**63 - 1),
    "presence_penalty": _number(MAX_PENALTY, _OWN, least=-MAX_PENALTY),
    "frequency_penalty": _number(MAX_PENALTY, _OWN, least=-MAX_PENALTY),
    "n": _whole(1, MAX_ALTERNATIVES),
    "reasoning_effort": _word,
    "thinking_budget": _whole(-1, MAX_TOKENS),
    "verbosity": _word,
    "parallel_tool_calls": _optional(_flag),
    "service_tier": _word,
    "user": _word,
    "extra": _mapping_of("of parameters by their names on the wire"),
    "droppable": _name_set,
    "native": _native,
}
"""Check of each field of a request: returns the value itself, or its plain equivalent."""

_LIMITS: Mapping[str, Field] = {
    "model": _word,
    "deployment": _word,
    "allow": _name_set,
    "deny": _name_set,
    "regions": _name_set,
    "max_usd": _number(MAX_NUMBER, "leave it out for no ceiling"),
    "total_usd": _number(MAX_NUMBER, "leave it out for no ceiling", least=-MAX_NUMBER),  # below 0 once it is overspent
    "deadline_s": _number(MAX_NUMBER, "leave it out for the configuration's"),
    "wants": _name_set,
    "prefer": _word,
    "preference": _one_of(*PREFERENCES),
    "category": _word,
    "policy": _word,
}
"""Check of each field of :class:`~semroute.dispatch.constraints.Constraints`."""


def _with_defaults(owner: Any, checks: Mapping[str, Field]) -> _Checks:
    """Return the checks, each with the default of its dataclass field.

    A value that is its field's default needs no check.
    """
    defaults = {field.name: field.default for field in fields(owner)}
    return tuple((name, check, defaults[name]) for name, check in checks.items())


_OF_A_REQUEST, _OF_CONSTRAINTS = _with_defaults(Request, _FIELDS), _with_defaults(Constraints, _LIMITS)
_OF_A_TOOL = _with_defaults(Tool, _TOOL_FIELDS)
