"""Which tools a model may, must or must not call, read once for the formats that have their own words for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

from semroute.errors import RequestError
from semroute.types import Request

Mode: TypeAlias = Literal["auto", "none", "required"]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """A mode; ``name`` is the one tool that has to be called, where one is named."""

    mode: Mode
    name: str | None = None


def tool_choice(request: Request, deployment: str) -> ToolChoice | None:
    """The request's choice; None where it leaves the choice open, or where no tool makes it matter.

    Raises:
        RequestError: a call is demanded of a tool that the request does not have.
    """
    choice = request.tool_choice
    if choice is None or (not request.tools and choice in ("auto", "none")):
        return None
    if choice in get_args(Mode) and request.tools:
        return ToolChoice(cast(Mode, choice))
    if choice not in (tool.name for tool in request.tools):
        message = f"{deployment}: tool_choice {choice!r} needs a tool that the request does not have"
        raise RequestError(message, deployment=deployment)
    return ToolChoice("required", choice)
