"""A request in the wire format of Google Gemini's ``generateContent``.

Source: https://ai.google.dev/api/generate-content; Vertex has the same fields:
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference. Schemas go as JSON schema
(``responseJsonSchema``, ``parametersJsonSchema``) and not in the older OpenAPI subset, which knows no ``$ref``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from semroute.catalog import thinks_by_budget
from semroute.errors import CapabilityError
from semroute.providers.conversation.images import InlineImage, LinkedImage
from semroute.providers.conversation.lacking import add_extra, lacks, parameters
from semroute.providers.conversation.messages import CallPart, Part, Result, Text, Turn, json_object, read
from semroute.providers.conversation.tool_choice import ToolChoice, tool_choice
from semroute.providers.target import CallTarget
from semroute.types import Request, Tool

UNSIGNED = "skip_thought_signature_validator"
"""Stands for the signature of a call that another model made, or whose signature was lost.

Source: https://ai.google.dev/gemini-api/docs/thought-signatures.
"""

_ROLES = {"user": "user", "assistant": "model"}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".heic": "image/heic",
    ".heif": "image/heif",
}
_WORDS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "n": "candidateCount",
}
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}
_OF_THE_BODY = frozenset({"safetySettings", "cachedContent", "labels", "store"})
_VERSION = re.compile(r"gemini-(\d+)")


def payload(target: CallTarget, request: Request, *, stream: bool = False) -> dict[str, object]:
    """The body of the request; what the request leaves open is left to the provider.

    Raises:
        CapabilityError: it asks for what this format cannot carry.
        RequestError: it holds what no provider could read.
    """
    name = target.deployment.name
    if missing := lacks(target, request):
        raise CapabilityError(f"{name}: Gemini's format cannot carry {', '.join(missing)}", deployment=name)
    found = parameters(target, request, stream=stream)
    conversation = read(request, name)
    wants_signatures = _wants_signatures(target.deployment.upstream)
    body: dict[str, object] = {
        "contents": [content for turn in conversation.turns for content in _contents(turn, name, wants_signatures)]
    }
    if conversation.system:
        body["systemInstruction"] = {"parts": [{"text": text} for text in conversation.system]}
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
    if (choice := tool_choice(request, name)) is not None:
        body["toolConfig"] = {"functionCallingConfig": _choice(choice)}
    config = dict(_generation_config(request)) | dict(_named(found.named, target.deployment.upstream))
    add_extra(config, {key: value for key, value in found.extra.items() if key not in _OF_THE_BODY}, target)
    if config:
        body["generationConfig"] = config
    if (tier := found.named.get("service_tier")) not in (None, "auto"):
        body["serviceTier"] = "standard" if tier == "default" else tier
    add_extra(body, {key: value for key, value in found.extra.items() if key in _OF_THE_BODY}, target)
    return body


def _named(named: Mapping[str, object], upstream: str) -> Iterator[tuple[str, object]]:
    """The parameters in the API's words."""
    for name, word in _WORDS.items():
        if name in named:
            yield word, named[name]
    # https://ai.google.dev/gemini-api/docs/thinking; the budgets of an effort are those of Google's own server of
    # OpenAI's format: https://ai.google.dev/gemini-api/docs/openai#thinking
    effort = named.get("reasoning_effort")
    if "thinking_budget" in named:
        yield "thinkingConfig", {"thinkingBudget": named["thinking_budget"]}
    elif isinstance(effort, str) and effort in _BUDGETS and thinks_by_budget(upstream):
        yield "thinkingConfig", {"thinkingBudget": _BUDGETS[effort]}
    elif effort is not None:
        yield "thinkingConfig", {"thinkingLevel": effort}


def _generation_config(request: Request) -> Iterator[tuple[str, object]]:
    if request.max_tokens is not None:
        yield "maxOutputTokens", request.max_tokens
    if request.stop:
        yield "stopSequences", list(request.stop)
    if request.json_schema is not None:
        yield "responseMimeType", "application/json"
        yield "responseJsonSchema", dict(request.json_schema)
    if request.logprobs:
        yield "responseLogprobs", True


def _contents(turn: Turn, deployment: str, wants_signatures: bool) -> Iterator[dict[str, object]]:
    """A turn as contents: results of calls stand in one of their own, as the API expects them."""
    for _, group in groupby(turn.parts, key=lambda part: isinstance(part, Result)):
        parts = [_part(part, deployment) for part in group]
        if wants_signatures:
            _sign(parts)
        yield {"role": _ROLES[turn.role], "parts": parts}


def _part(part: Part, deployment: str) -> dict[str, object]:
    match part:
        case Text(text):
            return {"text": text}
        case InlineImage(media_type, data):
            return {"inlineData": {"mimeType": media_type, "data": data}}
        case LinkedImage(url):
            return {"fileData": _file(url)}
        case CallPart(id, name, arguments, signature):
            call: dict[str, object] = {"functionCall": {"id": id, "name": name, "args": dict(arguments)}}
            return call if signature is None else {**call, "thoughtSignature": signature}
        case Result(id, name, content):
            return {"functionResponse": {"id": id, "name": name, "response": _response(content, deployment)}}


def _file(url: str) -> dict[str, object]:
    """Vertex asks for a type; where the address tells none, the server says what it makes of it."""
    media_type = _MEDIA_TYPES.get(PurePosixPath(urlsplit(url).path).suffix.lower())
    return {"fileUri": url} if media_type is None else {"mimeType": media_type, "fileUri": url}


def _response(content: Iterable[Text | InlineImage | LinkedImage], deployment: str) -> Mapping[str, object]:
    """A function's response has to be an object: the result itself where it is one, or the text as its output."""
    texts = [part.text for part in content if isinstance(part, Text)]
    if len(texts) != len(tuple(content)):
        message = f"{deployment}: a tool message holds an image, which Gemini's format cannot carry"
        raise CapabilityError(message, deployment=deployment)
    text = "\n".join(texts)
    found = json_object(text)
    return {"output": text} if found is None else found


def _wants_signatures(model: str) -> bool:
    """Since Gemini 3 a call without a signature is refused; the names ``…-latest`` stand for such models."""
    version = _VERSION.search(model)
    return model.endswith("-latest") if version is None else int(version[1]) >= 3


def _sign(parts: list[dict[str, object]]) -> None:
    """Of calls made at once only the first has a signature."""
    calls = [part for part in parts if "functionCall" in part]
    if calls and not any("thoughtSignature" in part for part in calls):
        calls[0]["thoughtSignature"] = UNSIGNED


def _tool(tool: Tool) -> dict[str, object]:
    declaration: dict[str, object] = {"name": tool.name}
    if tool.description:
        declaration["description"] = tool.description
    if tool.parameters:  # left out, it means a function without parameters
        declaration["parametersJsonSchema"] = dict(tool.parameters)
    return declaration


def _choice(choice: ToolChoice) -> dict[str, object]:
    if choice.name is None:
        return {"mode": _MODES[choice.mode]}
    return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
