"""Conversion of a request for all wire formats.

Images, limits of the wire format, tool choice, and conversation turns.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NoReturn, TypeAlias, cast, get_args
from urllib.parse import unquote_to_bytes

from semroute.catalog import Parameters, capabilities_of, carried, parameters_of, unsaid
from semroute.errors import CapabilityError, RequestError
from semroute.providers.target import CallTarget
from semroute.types import Message, Request
from semroute.types.openai import ShapeError, chosen_name


@dataclass(frozen=True, slots=True)
class InlineImage:
    """Image inside the request, as standard base64.

    ``media_type`` is, for example, ``image/png``.
    """

    media_type: str
    data: str
    cache_control: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """Image that the provider fetches.

    ``url`` is http(s), or another scheme that the provider supports (gs://).
    """

    url: str
    cache_control: Mapping[str, object] | None = None


def image(url: str) -> InlineImage | LinkedImage | None:
    """Parse an ``image_url``; None if it is invalid.

    Valid are addresses, and ``data:`` URLs with a media type (RFC 2397); base64 without padding, or in the URL-safe
    alphabet, is accepted too.
    """
    scheme, separator, rest = url.partition(":")
    if not separator:
        return None
    if scheme.lower() != "data":
        return LinkedImage(url) if rest.startswith("//") else None
    head, comma, body = rest.partition(",")
    media_type, *parameters = [part.strip().lower() for part in head.split(";")]
    if not comma or "/" not in media_type:
        return None
    content = unquote_to_bytes(body)
    if "base64" in parameters:
        try:
            content = _decoded(content)
        except binascii.Error:
            return None
    return InlineImage(media_type, base64.b64encode(content).decode())


def _decoded(content: bytes) -> bytes:
    packed = b"".join(content.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)


# Limits of a wire format: the last check, after the selection of a deployment.


def lacks(target: CallTarget, request: Request) -> tuple[str, ...]:
    """Return the request's features that the vendor does not support.

    They are sorted by name.
    """
    deployment = target.deployment
    return tuple(sorted(capabilities_of(request) & (deployment.vendor.lacks | set(deployment.lacks))))


def parameters(target: CallTarget, request: Request, *, stream: bool) -> Parameters:
    """Return the parameters to send.

    Raises:
        CapabilityError: the deployment does not support one of them, and the request does not allow dropping it.
        RequestError: ``extra`` duplicates a field of the request.
    """
    name = target.deployment.name
    try:
        asked = parameters_of(request)
    except RequestError as error:
        raise RequestError(f"{name}: {error}", deployment=name) from None
    if reasons := unsaid(target.deployment, asked):
        raise CapabilityError(f"{name}: {'; '.join(reasons)}", deployment=name)
    found = carried(target.deployment, asked)
    if stream and "n" in found.named:
        message = f"{name}: a stream gives one answer; ask for n={request.n} without streaming"
        raise CapabilityError(message, deployment=name)
    return found


def add_extra(body: dict[str, object], extra: Mapping[str, object], target: CallTarget) -> None:
    """Add parameters of the wire format to a body.

    Raises:
        RequestError: one of them duplicates a field of the request.
    """
    if taken := sorted(body.keys() & extra.keys()):
        name = target.deployment.name
        message = f"{name}: extra names {', '.join(taken)}, which another field of the request says already"
        raise RequestError(message, deployment=name)
    body |= extra


# Tool choice: which tools a model may, must or must not call, parsed once for the formats with their own terms for it.

Mode: TypeAlias = Literal["auto", "none", "required"]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Tool choice: a mode, and the ``name`` of a required tool, if any."""

    mode: Mode
    name: str | None = None


def tool_choice(request: Request, deployment: str) -> ToolChoice | None:
    """Return the request's tool choice.

    None if it is unset, without effect because there are no tools, or one among several tools that may be left out.

    Raises:
        RequestError: it requires a tool that the request does not have.
    """
    choice = request.tool_choice
    if choice is None or (not request.tools and choice in ("auto", "none")):
        return None
    if choice in get_args(Mode) and request.tools:
        return ToolChoice(cast(Mode, choice))
    if isinstance(choice, Mapping) and choice.get("type") != "function":
        return None
    name = called_name(choice, deployment)
    if name not in (tool.name for tool in request.tools):
        message = f"{deployment}: tool_choice {name!r} needs a tool that the request does not have"
        raise RequestError(message, deployment=deployment)
    return ToolChoice("required", name)


def called_name(choice: str | Mapping[str, object] | None, deployment: str) -> str:
    """Return the name of the tool that a tool choice demands.

    Raises:
        RequestError: it names none.
    """
    try:
        name = choice if isinstance(choice, str) else chosen_name(choice)
    except ShapeError as error:
        raise RequestError(f"{deployment}: tool_choice {error.found}", deployment=deployment) from None
    return name or ""


def schema_of(request: Request) -> dict[str, object] | None:
    """Return the answer's schema with the description of its format.

    The format is OpenAI's ``response_format``.
    """
    if request.json_schema is None:
        return None
    description = request.json_schema_options.get("description")
    return {**({} if description is None else {"description": description}), **request.json_schema}


# Conversion of a conversation in OpenAI's format to turns, from which other wire formats are written.
#
# Source of the format: https://platform.openai.com/docs/api-reference/chat/create. Anything that a turn cannot express
# raises :class:`~semroute.errors.CapabilityError`, so that nothing of a request is lost.

Role: TypeAlias = Literal["user", "assistant"]

_READ: Mapping[str, frozenset[str]] = {
    "system": frozenset(),
    "developer": frozenset(),
    "user": frozenset(),
    "assistant": frozenset({"tool_calls", "refusal"}),
    "tool": frozenset({"tool_call_id", "name", "is_error"}),
}
"""Fields read from a message of each role, besides its role and content.

An assistant's message is sent back with whatever its vendor added to it (``annotations``, ``reasoning_content``,
``extra_content``, …); its other fields are ignored. Other messages must have no other fields.
"""

_REASONING_PARTS = frozenset({"thinking", "redacted_thinking", "reasoning"})
"""Types of content parts that are another model's reasoning, signed or encrypted for that model alone."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text part, never empty.

    ``cache_control`` is Anthropic's marker, as in other parts.
    """

    text: str
    cache_control: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class CallPart:
    """Tool call by the model; ``signature`` is Gemini's, if present."""

    id: str
    name: str
    arguments: Mapping[str, object]
    signature: str | None = None
    cache_control: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """Result of a tool call; ``name`` is the function's.

    ``is_error`` is Anthropic's marker that the tool failed.
    """

    id: str
    name: str
    content: tuple[Text | InlineImage | LinkedImage, ...]
    cache_control: Mapping[str, object] | None = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class SignedReasoning:
    """Anthropic's signed reasoning as a content ``block``.

    No other vendor reads it.
    """

    block: Mapping[str, object]


Content: TypeAlias = Text | InlineImage | LinkedImage | CallPart | Result
"""Part that every wire format has."""

Part: TypeAlias = Content | SignedReasoning


@dataclass(frozen=True, slots=True)
class Turn:
    """Turn of a conversation: consecutive messages of one side."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Conversation as alternating turns.

    Attributes:
        instructions: texts of the system and developer messages, from any position, in order.
        turns: user and assistant in alternation; tool results belong to the user.
    """

    instructions: tuple[Text, ...]
    turns: tuple[Turn, ...]

    @property
    def system(self) -> tuple[str, ...]:
        """Texts of the instructions, without cache markers."""
        return tuple(part.text for part in self.instructions)


def read(request: Request, deployment: str) -> Conversation:
    """Convert messages to turns, merging consecutive ones of one side.

    Args:
        request: the request.
        deployment: name of the deployment, for errors.

    Raises:
        CapabilityError: a message contains something that a turn cannot express, or all messages are instructions.
        RequestError: no provider could read a message.
    """
    reader = _MessageReader(deployment)
    for number, message in enumerate(request.messages):
        reader.add(number, message)
    if not reader.turns:
        raise CapabilityError(f"{deployment}: no user or assistant message has any content", deployment=deployment)
    turns = tuple(Turn(role, tuple(parts)) for role, parts in reader.turns)
    return Conversation(tuple(reader.system), turns)


class _MessageReader:
    def __init__(self, deployment: str) -> None:
        self.system: list[Text] = []
        self.turns: list[tuple[Role, list[Part]]] = []
        self._deployment = deployment
        self._functions: dict[str, str] = {}  # function names by call id
        self._where = ""

    def add(self, number: int, message: Message) -> None:
        self._where = f"message {number}"
        if not isinstance(message, Mapping):
            self._wrong("is not a mapping with a role")
        role = message.get("role")
        if not isinstance(role, str) or role not in _READ:
            self._cannot(f"has the role {role!r}")
        for key, value in message.items():
            # Messages serialised from an answer have empty fields.
            is_known = key in ("role", "content", "cache_control") or key in _READ[role]
            if value and not is_known and (role != "assistant" or key == "function_call"):
                self._cannot(f"has {key!r}")
        content = list(self._content(message.get("content"), is_answer=role == "assistant"))
        if role in ("system", "developer"):
            self._instruct(self._marked(content, message))
        elif role == "tool":
            self._say("user", self._marked([self._result(message, content)], message))
        elif role == "user":
            self._say("user", self._marked(content, message))
        else:
            said = [*content, *self._refusal(message), *self._calls(message)]
            reasoning = [SignedReasoning(block) for block in signed_reasoning(message)]
            self._say("assistant", [*reasoning, *self._marked(said, message)])

    def _marked(self, parts: Sequence[Content], message: Message) -> Sequence[Content]:
        """Return the parts, with the marker of the whole message on the last."""
        marker = self._marker(message)
        return parts if marker is None or not parts else [*parts[:-1], replace(parts[-1], cache_control=marker)]

    def _marker(self, holder: Mapping[str, object]) -> Mapping[str, object] | None:
        marker = holder.get("cache_control")
        if marker is not None and not isinstance(marker, Mapping):
            self._wrong("has a cache_control that is not a mapping")
        return marker or None

    def _instruct(self, content: Sequence[Content]) -> None:
        for part in content:
            if not isinstance(part, Text):
                self._cannot("is an instruction with an image")
            self.system.append(part)

    def _say(self, role: Role, parts: Sequence[Part]) -> None:
        if not parts:
            return
        if self.turns and self.turns[-1][0] == role:
            self.turns[-1][1].extend(parts)
        else:
            self.turns.append((role, list(parts)))

    def _content(self, content: object, *, is_answer: bool) -> Iterator[Text | InlineImage | LinkedImage]:
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if content is None:
            return
        if not isinstance(content, Sequence) or isinstance(content, bytes):
            self._wrong("has content that is neither text nor a list of parts")
        for part in content:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if is_answer and kind in _REASONING_PARTS:
                continue
            if kind in ("text", "refusal"):
                if text := self._words(part.get(kind)):
                    yield Text(text, self._marker(part))
            elif kind == "image_url":
                yield replace(self._image(part.get("image_url")), cache_control=self._marker(part))
            else:
                self._cannot(f"has a part of type {kind!r}")
            for key, value in part.items():
                if key not in ("type", kind, "cache_control") and value and not is_answer:
                    self._cannot(f"has a part with {key!r}")

    def _words(self, text: object) -> str:
        return text if isinstance(text, str) else self._wrong("has a text part without text")

    def _image(self, value: object) -> InlineImage | LinkedImage:
        given = value if isinstance(value, Mapping) else {"url": value}
        if given.get("detail") not in (None, "auto"):
            self._cannot(f'asks for an image in detail {given["detail"]!r} (leave out "detail")')
        url = given.get("url")
        found = image(url) if isinstance(url, str) else None
        return (
            found
            if found is not None
            else self._wrong("has an image whose address is neither http(s) nor a data: URL with a media type")
        )

    def _refusal(self, message: Message) -> list[Content]:
        refusal = message.get("refusal")
        return [Text(refusal)] if isinstance(refusal, str) and refusal else []

    def _calls(self, message: Message) -> Iterator[Content]:
        calls = message.get("tool_calls") or ()
        if not isinstance(calls, Sequence):
            self._wrong("has tool_calls that are not a list")
        for call in calls:
            function = call.get("function") if isinstance(call, Mapping) else None
            if not isinstance(function, Mapping):
                self._cannot("has a call of something that is not a function")
            id, name, arguments = call.get("id"), function.get("name"), function.get("arguments") or "{}"
            if not (isinstance(id, str) and id and isinstance(name, str) and name and isinstance(arguments, str)):
                self._wrong("has a call without id, name or arguments")
            self._functions[id] = name
            yield CallPart(id, name, self._arguments(arguments, id), signature(call))

    def _arguments(self, text: str, id: str) -> Mapping[str, object]:
        value = json_object(text)
        return value if value is not None else self._cannot(f"has a call {id!r} whose arguments are not a JSON object")

    def _result(self, message: Message, content: Sequence[Text | InlineImage | LinkedImage]) -> Result:
        id = message.get("tool_call_id")
        if not isinstance(id, str) or not id:
            self._wrong("answers no call: it has no tool_call_id")
        name = self._functions.get(id) or message.get("name")
        if not isinstance(name, str):
            self._wrong(f"answers the call {id!r}, which no message before it makes")
        return Result(id, name, tuple(content), is_error=message.get("is_error") is True)

    def _cannot(self, what: str) -> NoReturn:
        message = f"{self._deployment}: {self._where} {what}, which its wire format cannot carry"
        raise CapabilityError(message, deployment=self._deployment)

    def _wrong(self, what: str) -> NoReturn:
        raise RequestError(f"{self._deployment}: {self._where} {what}", deployment=self._deployment)


def ends_with_result(request: Request) -> bool:
    """Return True if a tool result comes last.

    The model may then have nothing to add.

    Source: https://docs.anthropic.com/en/api/handling-stop-reasons.
    """
    return bool(request.messages) and request.messages[-1].get("role") == "tool"


def signed_reasoning(message: Message) -> list[Mapping[str, object]]:
    """Return the signed reasoning of an assistant's message as blocks.

    The blocks are Anthropic's.

    They stand in ``thinking_blocks``, where :attr:`~semroute.types.Completion.message` has them, or in the content, as
    of Anthropic's own messages. Source:
    https://platform.claude.com/docs/en/build-with-claude/extended-thinking#preserving-thinking-blocks
    """
    found: list[Mapping[str, object]] = []
    content, listed = message.get("content"), message.get("thinking_blocks")
    for group in (listed, content):
        for block in group if isinstance(group, list | tuple) else ():
            if not isinstance(block, Mapping):
                continue
            kind, signature, data = block.get("type"), block.get("signature"), block.get("data")
            if kind == "thinking" and isinstance(signature, str) and signature:
                found.append({"type": kind, "thinking": block.get("thinking") or "", "signature": signature})
            elif kind == "redacted_thinking" and isinstance(data, str) and data:
                found.append({"type": kind, "data": data})
    return found


def reasons_before_result(request: Request) -> bool:
    """Return True if the last message of the assistant has signed reasoning."""
    for message in reversed(request.messages):
        if message.get("role") == "assistant":
            return bool(signed_reasoning(message))
    return False


def json_object(text: str) -> dict[str, object] | None:
    """Parse a text as a JSON object; None if it is not one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def signature(call: Mapping[str, object]) -> str | None:
    """Return the signature of a call, as Google's OpenAI server stores it.

    Source: https://ai.google.dev/gemini-api/docs/thought-signatures.
    """
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, Mapping) else None
    signature = google.get("thought_signature") if isinstance(google, Mapping) else None
    return signature if isinstance(signature, str) else None
