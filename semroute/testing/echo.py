"""The honest answer: the last user text again, a tool call where one is demanded, or the smallest JSON that fits.

In place of the text it may be a number alone, as a judge answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from semroute.testing.neutral import Answer, Call, ChatRequest, Finish, pieces
from semroute.testing.schema import instance


def respond(ask: ChatRequest, number: int | None = None) -> Answer:
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
