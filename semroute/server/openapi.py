"""OpenAPI description of the gateway: routes, bodies, every status.

The three chat formats are described as far as this gateway reads them; for the rest of their fields see the vendors'
own descriptions. Source of the form: https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from semroute import __version__
from semroute.server.admin import EXPORTED, MOST_EXPORTED
from semroute.server.keys import Right

Schema: TypeAlias = Mapping[str, Any]

JSON, EVENTS, LINES, TEXT = "application/json", "text/event-stream", "application/x-ndjson", "text/plain"
STATUSES: Mapping[int, str] = {
    200: "The answer.",
    400: "The request cannot be used; the message names the path.",
    401: "Keys are used, and this request has none that is valid.",
    403: "The key lacks a right or the model, or the Origin header names another page.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body has a content-encoding.",
    421: "The Host header names another server.",
    429: "A limit or budget of the key or of the providers is used up; `Retry-After` says for how long, if known.",
    431: "The header is too large.",
    500: "An error within the gateway; its log has the details.",
    502: "The providers failed.",
    503: "Every provider is down or busy, or the gateway is busy or about to end.",
    504: "No provider answered in time.",
    529: "As 503, in Anthropic's number.",
}
_GUARDS = (400, 403, 413, 415, 421, 431, 500)
"""Statuses of the guards before every route, and of what nobody expects."""
_TAKEN = (401, 503)
"""Statuses of every route that wants a key, and is turned away from a busy gateway."""
_BODY = (408,)
_CALL = (404, 429, 502, 504)
"""Statuses of a request for which a decision or a model is asked."""

_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_OBJECT: Schema = {"type": "object"}
_OBJECTS: Schema = {"type": "array", "items": _OBJECT}


def _object(required: Sequence[str] = (), **properties: Schema) -> Schema:
    """Return the schema of an object, which may have further fields."""
    return {"type": "object", "required": list(required), "properties": properties}


def _list(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


def _or_null(kind: str, **bounds: Any) -> Schema:
    return {"type": [kind, "null"], **bounds}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_MODEL: Schema = {**_NAME, "description": "`auto`, or a name that GET /v1/models lists.", "examples": ["auto"]}
_FUNCTION: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"}
_MOST: Schema = {"type": ["integer", "null"], "minimum": 1, "maximum": 2**31 - 1}
_SAMPLING: Mapping[str, Schema] = {
    "temperature": _or_null("number", minimum=0, maximum=2),
    "top_p": _or_null("number", minimum=0, maximum=1),
    "stream": _or_null("boolean"),
}


def _message(*roles: str) -> Schema:
    role: Schema = {"enum": list(roles)}
    return _object(["role", "content"], role=role, content={"oneOf": [_TEXT, _list(_ref("ContentBlock"), 1)]})


_SCHEMAS: Mapping[str, Schema] = {
    "ContentBlock": {
        "anyOf": [_object(["type", "text"], type={"const": "text"}, text=_NAME), _object(["type"], type=_NAME)]
    },
    "ChatRequest": _object(
        ["model", "messages"],
        model=_MODEL,
        messages=_list(_message("system", "developer", "user", "assistant"), 1),
        max_tokens=_MOST,
        max_completion_tokens=_MOST,
        n=_or_null("integer", minimum=1, maximum=128),
        stop={"oneOf": [{"type": "null"}, _TEXT, _list(_TEXT)]},
        response_format={
            "anyOf": [{"type": "null"}, _object(["type"], type={"enum": ["text", "json_object", "json_schema"]})]
        },
        tools={
            "oneOf": [
                {"type": "null"},
                _list(
                    _object(
                        ["type", "function"], type={"const": "function"}, function=_object(["name"], name=_FUNCTION)
                    )
                ),
            ]
        },
        **_SAMPLING,
    ),
    "ChatCompletion": _object(["id", "object", "model", "choices"], id=_TEXT, model=_TEXT, choices=_OBJECTS),
    "ResponsesRequest": _object(
        ["model", "input"],
        model=_MODEL,
        input={"oneOf": [_NAME, _list(_OBJECT, 1)]},
        instructions=_or_null("string"),
        max_output_tokens=_MOST,
        tools={"oneOf": [{"type": "null"}, _OBJECTS]},
        **_SAMPLING,
    ),
    "Response": _object(["id", "object", "model", "output"], id=_TEXT, model=_TEXT, output=_OBJECTS),
    "CountRequest": _object(["messages"], messages=_list(_message("user", "assistant"), 1)),
    "MessagesRequest": _object(
        ["model", "max_tokens", "messages"],
        model=_MODEL,
        max_tokens={"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
        messages=_list(_message("user", "assistant"), 1),
        system={"oneOf": [_TEXT, _list(_ref("ContentBlock"))]},
        stop_sequences=_list(_TEXT),
        tools={"oneOf": [{"type": "null"}, _list(_object(["name"], name=_FUNCTION))]},
        **_SAMPLING,
    ),
    "Message": _object(["id", "type", "role", "content"], id=_TEXT, model=_TEXT, content=_OBJECTS),
    "TokenCount": _object(["input_tokens"], input_tokens=_COUNT),
    "Models": _object(["data"], data=_list(_object(["id"], id=_TEXT))),
    "RouteRequest": {"anyOf": [_object(["query"], query=_NAME, model=_NAME), _ref("ChatRequest")]},
    "Decision": _object(["model", "strategy"], model=_TEXT, strategy=_TEXT, category=_or_null("string")),
    "Feedback": _object(["outcome_id", "quality"], outcome_id=_NAME, quality=_SHARE, comment=_or_null("string")),
    "Judged": _object(["outcome_id"], outcome_id=_TEXT),
    "KeyName": _object(["key"], key={**_NAME, "description": "Name or id of a key that GET /v1/keys lists."}),
    "Key": _object(["id", "name"], id=_TEXT, name=_TEXT),
    "Keys": _object(["keys"], keys=_list(_ref("Key"))),
    "Reloaded": _object(["reloaded"], reloaded=_or_null("boolean")),
    "Trial": _object(["policy", "share"], policy=_or_null("string"), share={"type": "number"}),
    "Share": _object(["share"], share=_SHARE),
    "Alive": _object(["status"], status=_TEXT),
    "Ready": _object(["ready"], ready={"type": "boolean"}),
    "OpenAIError": _object(["error"], error=_object(["message", "type"], message=_TEXT, type=_TEXT)),
    "AnthropicError": _object(
        ["type", "error"], type={"const": "error"}, error=_object(["message", "type"], message=_TEXT, type=_TEXT)
    ),
}


@dataclass(frozen=True, slots=True)
class _Described:
    """One route as it is described.

    Attributes:
        path: of the route.
        method: HTTP method, in lower case.
        summary: one line.
        answers: content type of a success, and its schema.
        takes: schema of its body; None where it has none.
        right: right that a key needs.
        statuses: statuses beside 200 and those of the guards.
        is_anthropics: whether errors have Anthropic's shape; None: that depends on the request.
        query: parameters of the query string.
    """

    path: str
    method: str
    summary: str
    answers: Mapping[str, Schema]
    takes: str | None = None
    right: Right | None = None
    statuses: tuple[int, ...] = ()
    is_anthropics: bool | None = False
    query: Mapping[str, Schema] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the operation in OpenAPI's shape."""
        found: dict[str, Any] = {"summary": self.summary, "operationId": self._id(), "responses": self._responses()}
        if self.right is not None:
            found["description"] = f"Where keys are used, the key needs the right `{self.right}`."
        if self.takes is not None:
            found["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(self.takes)}}}
        if self.query:
            found["parameters"] = [{"name": name, "in": "query", "schema": kind} for name, kind in self.query.items()]
        if 401 not in self.statuses:
            found["security"] = []
        return found

    def _id(self) -> str:
        return f"{self.method}_{self.path.strip('/').removeprefix('v1/').replace('/', '_').replace('.', '_') or 'root'}"

    def _responses(self) -> dict[str, Any]:
        of_errors = {
            True: _ref("AnthropicError"),
            False: _ref("OpenAIError"),
            None: {"anyOf": [_ref("OpenAIError"), _ref("AnthropicError")]},
        }[self.is_anthropics]
        found = {"200": _response(200, self.answers)}
        for status in sorted({*_GUARDS, *self.statuses}):
            # The guards come before the formats are known.
            error = _ref("OpenAIError") if self.is_anthropics is False else {"anyOf": [_ref("OpenAIError"), of_errors]}
            found[str(status)] = _response(status, {JSON: error})
        return found


def _response(status: int, contents: Mapping[str, Schema]) -> dict[str, Any]:
    content = {kind: {"schema": schema} for kind, schema in contents.items()}
    return {"description": STATUSES[status], "content": content}


def _chat(path: str, summary: str, takes: str, answer: str, *more: int, is_anthropics: bool = False) -> _Described:
    contents: dict[str, Schema] = {JSON: _ref(answer), EVENTS: {}}
    statuses = (*_TAKEN, *_BODY, *_CALL, *more)
    return _Described(path, "post", summary, contents, takes, "call", statuses, is_anthropics)


_QUERY: Mapping[str, Schema] = {
    "since": {"type": "string", "format": "date-time"},
    "until": {"type": "string", "format": "date-time"},
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_EXPORTED, "default": EXPORTED},
}
_ROUTES: tuple[_Described, ...] = (
    _chat("/v1/chat/completions", "Answer in OpenAI's Chat Completions.", "ChatRequest", "ChatCompletion"),
    _chat("/v1/responses", "Answer in OpenAI's Responses, without state.", "ResponsesRequest", "Response"),
    _chat("/v1/messages", "Answer in Anthropic's Messages.", "MessagesRequest", "Message", 529, is_anthropics=True),
    _Described(
        "/v1/messages/count_tokens", "post", "Estimate the tokens of a request of Anthropic's; no model is called.",
        {JSON: _ref("TokenCount")}, "CountRequest", "call", (*_TAKEN, *_BODY), is_anthropics=True,
    ),
    _Described(
        "/v1/models", "get", "List the model names; in Anthropic's shape with the header `anthropic-version`.",
        {JSON: _ref("Models")}, statuses=_TAKEN, is_anthropics=None,
    ),
    _Described(
        "/v1/route", "post", "Decide without calling a model.",
        {JSON: _ref("Decision")}, "RouteRequest", "call", (*_TAKEN, *_BODY, *_CALL),
    ),
    _Described(
        "/v1/feedback", "post", "Judge an answer.",
        {JSON: _ref("Judged")}, "Feedback", "feedback", (*_TAKEN, *_BODY),
    ),
    _Described("/v1/keys", "get", "List the keys with their spending.", {JSON: _ref("Keys")}, None, "keys", _TAKEN),
    _Described(
        "/v1/keys/disable", "post", "Refuse a key until it is enabled again.",
        {JSON: _ref("Key")}, "KeyName", "keys", (*_TAKEN, *_BODY),
    ),
    _Described(
        "/v1/keys/enable", "post", "Take a disabled key again.",
        {JSON: _ref("Key")}, "KeyName", "keys", (*_TAKEN, *_BODY),
    ),
    _Described(
        "/v1/reload", "post", "Load configuration and index anew, in all workers.",
        {JSON: _ref("Reloaded")}, None, "reload", _TAKEN,
    ),
    _Described(
        "/v1/trial", "get", "Show the policy on trial, and its blind comparisons.",
        {JSON: _ref("Trial")}, None, "trial", _TAKEN,
    ),
    _Described(
        "/v1/trial", "put", "Set the share of the queries that the policy on trial decides.",
        {JSON: _ref("Trial")}, "Share", "trial", (*_TAKEN, *_BODY),
    ),
    _Described(
        "/v1/export", "get", "Stream logged outcomes as JSON lines, oldest first.",
        {LINES: _TEXT}, None, "export", (*_TAKEN, 429), query=_QUERY,
    ),
    _Described("/openapi.json", "get", "Describe the routes.", {JSON: _OBJECT}, statuses=_TAKEN),
    _Described("/healthz", "get", "Tell a load balancer that the process is alive.", {JSON: _ref("Alive")}),
    _Described("/", "get", "Answer as /healthz.", {JSON: _ref("Alive")}),
    _Described(
        "/readyz", "get", "Tell a load balancer whether requests are taken.", {JSON: _ref("Ready")}, statuses=(503,)
    ),
    _Described(
        "/metrics", "get", "Show the metrics in Prometheus' text format.", {TEXT: _TEXT}, None, "metrics", (401,)
    ),
)  # fmt: skip


@cache
def describe_api() -> Mapping[str, Any]:
    """Return the OpenAPI 3.1 description of the gateway, JSON-ready."""
    paths: dict[str, dict[str, Any]] = {}
    for route in _ROUTES:
        paths.setdefault(route.path, {})[route.method] = route.to_dict()
    # Not ready is an answer of its own shape, and no error.
    paths["/readyz"]["get"]["responses"]["503"] = _response(503, {JSON: _ref("Ready")})
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A key of `semroute keys create`."},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key."},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "semroute",
            "version": __version__,
            "summary": "A router in front of a pool of language models.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": dict(_SCHEMAS), "securitySchemes": schemes},
        # Without any key in the keys' file everybody on this machine may call.
        "security": [{"bearer": []}, {"header": []}, {}],
    }
