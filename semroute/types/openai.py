"""OpenAI's shapes: tools, tool choices, response formats, bodies.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from semroute.errors import InputError
from semroute.types.chat import Tool

MODES = ("auto", "none", "required")
"""Tool choices that name no tool."""

_IGNORED = frozenset({"model", "stream", "stream_options"})
_SAME = frozenset(
    {
        "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "n", "reasoning_effort",
        "thinking_budget", "verbosity", "parallel_tool_calls", "service_tier", "user", "logprobs",
    }
)  # fmt: skip
"""Parameters that are fields of a request under the same name."""

_REPLACED = {
    "functions": 'is deprecated: give tools, [{"type": "function", "function": {…}}]',
    "function_call": "is deprecated: give tool_choice",
}
_LIMITS = ("max_completion_tokens", "max_tokens")
_OF_A_FUNCTION = frozenset({"name", "description", "parameters", "strict", "cache_control"})
_OF_A_FLAT_TOOL = _OF_A_FUNCTION | {"type", "input_schema"}
_OF_A_SCHEMA = frozenset({"name", "description", "schema", "strict"})
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


class ShapeError(ValueError):
    """Value in no shape of OpenAI's, with its path from the outside in."""

    def __init__(self, found: str, *path: str | int) -> None:
        self.found = found
        self.path = path
        super().__init__(found)

    def below(self, *path: str | int) -> ShapeError:
        """Return the same error, with its path seen from further outside."""
        return ShapeError(self.found, *path, *self.path)


def request_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the :class:`~semroute.types.Request` fields of a chat body.

    The body is one of Chat Completions.

    Raises:
        InputError: the body cannot be used; the message names the path.
    """
    if not isinstance(body, Mapping):
        raise InputError(f"a body of Chat Completions is a mapping, not {type(body).__name__}")
    try:
        return dict(_fields({str(key): value for key, value in body.items() if value is not None}))
    except ShapeError as error:
        raise InputError(f"{_written(error.path)}: {error.found}") from None


def _fields(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, remedy in _REPLACED.items():
        if name in body:
            raise ShapeError(remedy, name)
    yield "messages", tuple(_list(body.pop("messages", None), "messages", "chat messages"))
    if (most := _limit(body)) is not None:
        yield "max_tokens", most
    if "stop" in body:
        stop = body.pop("stop")
        yield "stop", stop if isinstance(stop, str) else tuple(_list(stop, "stop", "texts"))
    if "tools" in body:
        yield "tools", tuple(_tools(_list(body.pop("tools"), "tools", "tools")))
    if "tool_choice" in body:
        yield "tool_choice", _below("tool_choice", tool_choice_of, body.pop("tool_choice"))
    if "response_format" in body:
        yield from _response_format(body)
    yield from ((name, body.pop(name)) for name in _SAME & body.keys())
    yield "extra", {name: value for name, value in body.items() if name not in _IGNORED}


def _limit(body: dict[str, Any]) -> object:
    """Return the limit of the answer, which has two names."""
    given = {name: body.pop(name) for name in _LIMITS if name in body}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ShapeError(f"is {value!r:.40}, not a whole number above 0", name)
    if len(set(given.values())) > 1:
        raise ShapeError("differs from max_tokens, its older name; leave max_tokens out", _LIMITS[0])
    return next(iter(given.values()), None)


def _list(value: object, name: str, of: str) -> Sequence[Any]:
    if value is None:
        raise ShapeError(f"is missing; it is a list of {of}", name)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray | memoryview):
        raise ShapeError(f"is {type(value).__name__}, not a list of {of}", name)
    return value


def _tools(tools: Sequence[Any]) -> Iterator[Any]:
    for place, tool in enumerate(tools):
        try:
            # An SDK's object is read at the router's door.
            yield tool_of(tool) if isinstance(tool, Mapping) else tool
        except ShapeError as error:
            raise error.below("tools", place) from None


def _response_format(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    given = body["response_format"]
    kind = given.get("type") if isinstance(given, Mapping) else None
    if isinstance(given, type):
        yield "json_schema", given  # a pydantic model class, as the SDK's ``parse`` takes it
    elif kind == "json_schema":
        schema, options = _below("response_format", schema_of, given)
        # Without the flag the schema is not enforced: OpenAI's default.
        yield "json_schema", schema
        yield "json_schema_options", {"strict": False, **options}
    elif not isinstance(kind, str):
        raise ShapeError('is a mapping with a type: "text", "json_object" or "json_schema"', "response_format")
    elif kind != "text":
        return  # it stays a parameter of the wire format
    del body["response_format"]


def _below(name: str, read: Any, value: object) -> Any:
    try:
        return read(value)
    except ShapeError as error:
        raise error.below(name) from None


def tool_of(value: Mapping[str, Any]) -> Tool:
    """Return the tool in a mapping.

    Known are ``{"type": "function", "function": {…}}``, the same without the inner mapping (OpenAI's Responses), and
    Anthropic's ``{"name": …, "input_schema": {…}}``. A tool of another type, or with a field that is none of a
    function's, keeps its whole definition, which is sent as it is.

    Raises:
        ShapeError: it has no name, or a field of a wrong type.
    """
    kind = value.get("type", "function")
    if not isinstance(kind, str) or not kind:
        raise ShapeError(f"is {type(kind).__name__}, not text", "type")
    nested = value.get(kind)
    if kind == "function" and "function" in value:
        fields = _mapping(nested, "function")
        tool = _function({"cache_control": value.get("cache_control"), **fields}, "function")
        known = fields.keys() <= _OF_A_FUNCTION and value.keys() <= {"type", "function", "cache_control"}
    elif kind == "function":
        tool, known = _function(value), value.keys() <= _OF_A_FLAT_TOOL
    else:
        named = nested.get("name") if isinstance(nested, Mapping) else value.get("name")
        tool, known = Tool(named if isinstance(named, str) and named else kind), False
    return tool if known else Tool(tool.name, tool.description, tool.parameters, definition=value)


def _function(fields: Mapping[str, Any], *path: str) -> Tool:
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        found = "is missing" if name is None else "is empty" if name == "" else f"is {type(name).__name__}"
        raise ShapeError(f"{found}; a tool has the name of a function", *path, "name")
    description, strict = fields.get("description"), fields.get("strict")
    if not isinstance(description, str | None):
        raise ShapeError(f"is {type(description).__name__}, not text", *path, "description")
    if not isinstance(strict, bool | None):
        raise ShapeError(f"is {type(strict).__name__}, not true or false", *path, "strict")
    key = "parameters" if fields.get("parameters") is not None else "input_schema"
    schema, marker = fields.get(key), fields.get("cache_control")
    parameters = {} if schema is None else _mapping(schema, *path, key)
    return Tool(
        name, description or "", parameters, None if marker is None else _mapping(marker, "cache_control"), strict
    )


def tool_choice_of(value: object) -> str | Mapping[str, object]:
    """Return a tool choice: a mode, a tool's name, or another mapping.

    Raises:
        ShapeError: it is neither text nor one of OpenAI's mappings.
    """
    if isinstance(value, str):
        return str(value)
    choice = _mapping(value)
    if (name := chosen_name(choice)) is not None:
        return choice if name in MODES or choice.get("type") != "function" else name
    if choice.get("type") != "allowed_tools":
        raise ShapeError(
            'is neither "auto", "none", "required" nor {"type": "function", "function": {"name": …}}', "type"
        )
    return choice


def chosen_name(choice: object) -> str | None:
    """Return the tool's name in OpenAI's tool choice; None without one."""
    if not isinstance(choice, Mapping) or choice.get("type") not in ("function", "custom"):
        return None
    inner = choice.get(choice["type"])
    name = inner.get("name") if isinstance(inner, Mapping) else choice.get("name")
    if not isinstance(name, str) or not name:
        raise ShapeError("is missing; it is the name of one of the tools", choice["type"], "name")
    return name


def is_response_format(value: Mapping[str, Any]) -> bool:
    """Return True if a mapping is OpenAI's ``response_format``, no schema."""
    return value.get("type") == "json_schema" and "json_schema" in value


def schema_of(response_format: Mapping[str, Any]) -> tuple[Mapping[str, object], dict[str, object]]:
    """Return the schema of a ``response_format``, and its options.

    These are ``name``, ``description`` and ``strict``.

    Raises:
        ShapeError: it has no schema, or a field of a wrong type.
    """
    given = _mapping(response_format.get("json_schema"), "json_schema")
    if unknown := sorted(str(name) for name in given if name not in _OF_A_SCHEMA):
        raise ShapeError("is no field of a response_format: leave it out", "json_schema", unknown[0])
    schema = _mapping(given.get("schema"), "json_schema", "schema")
    options = {name: value for name, value in given.items() if name != "schema" and value is not None}
    for name, kind in (("name", str), ("description", str), ("strict", bool)):
        if not isinstance(options.get(name, kind()), kind):
            raise ShapeError(f"is {type(options[name]).__name__}, not {kind.__name__}", "json_schema", name)
    return schema, options


def model_schema(model: Any) -> tuple[dict[str, object], dict[str, object]]:
    """Return the closed schema of a pydantic model class, and its name.

    OpenAI enforces a schema only if its objects are closed and all of their properties required; a model without
    defaults is then followed to the letter.
    """
    schema: dict[str, object] = _closed(model.model_json_schema())
    return schema, {"name": _NOT_IN_A_NAME.sub("_", model.__name__)[:64]}


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    closed = {}
    for key, value in schema.items():
        if key in ("properties", "$defs") and isinstance(value, dict):
            value = {name: _closed(part) for name, part in value.items()}
        elif key in ("items", "additionalProperties"):
            value = _closed(value)
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
            value = [_closed(part) for part in value]
        closed[key] = value
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def _mapping(value: object, *path: str | int) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _wrong(value, path)
    return value


def _wrong(value: object, path: tuple[str | int, ...]) -> NoReturn:
    raise ShapeError("is missing" if value is None else f"is {type(value).__name__}, not a mapping", *path)


def _written(path: Sequence[str | int]) -> str:
    """Return a path as ``tools[0].function.name``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
