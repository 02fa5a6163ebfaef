"""Conversations without text, and messages as the objects of clients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageToolCall
from openai.types.chat.chat_completion_message_tool_call import Function
from pydantic import BaseModel

from semroute.config import Config
from semroute.errors import QueryError
from semroute.router import Router
from semroute.testing import FakeProvider, answer
from semroute.types import Request

QUESTION = "how long do I boil an egg"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "1"}
RESULT_OF_A = {"role": "tool", "tool_call_id": "a", "content": "1"}
REMINDER = "<system-reminder>The list is empty.</system-reminder>"
RULES = """
rules:
  - {name: pictures, when: {attachments: image}, use: [seer]}
  - {name: paying, when: {metadata: {plan: gold}}, use: [gold]}
  - {name: voices, when: {attachments: any}, only: [large]}
"""


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


@pytest.fixture(scope="module")
def router(routing_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Router:
    path = tmp_path_factory.mktemp("rules") / "semroute.yaml"
    path.write_text(RULES)
    return Router.load(routing_index, config=path)


@pytest.mark.parametrize("kind", ["image_url", "input_image", "image"])
def test_a_rule_on_attachments_decides_on_an_image_alone(router: Router, kind: str) -> None:
    part = {**IMAGE, "type": kind}
    decision = router.route([user([part])])
    assert (decision.strategy, decision.model, decision.query) == ("rules", "seer", "")


def test_a_rule_on_metadata_decides_without_text(router: Router) -> None:
    decision = router.route(Request((user([RESULT]),), metadata={"plan": "gold"}))
    assert (decision.strategy, decision.model) == ("rules", "gold")


def test_without_text_and_rule_the_fallback_answers_and_says_why(router: Router) -> None:
    decision = router.route([user([{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}])])
    assert (decision.is_fallback, decision.category, decision.candidates) == (True, None, ("large",))
    assert "no text of the user's to route by, only input_audio" in decision.reason
    assert [opinion.strategy for opinion in decision.opinions] == ["rules"]


@pytest.mark.slow
@pytest.mark.parametrize("content", [[RESULT], REMINDER, [{"type": "text", "text": ""}, IMAGE], [{"text": REMINDER}]])
def test_what_holds_no_words_of_the_users_is_no_error(routing_index: Path, content: object) -> None:
    decision = Router.load(routing_index, config=Config()).route([user(content)])
    assert decision.is_fallback
    assert decision.score is None
    assert "no text" in decision.reason


@pytest.mark.parametrize("content", ["", " \n", "\u200b", [], [{"type": "text", "text": ""}], None])
def test_nothing_at_all_is_still_refused(router: Router, content: object) -> None:
    with pytest.raises(QueryError, match="empty"):
        router.route([user(content)])


def test_conversations_without_text_stand_in_a_batch_beside_others(router: Router) -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
    decisions = router.route_many([QUESTION, [user([IMAGE])], [user([audio])], "appeal a court ruling"])
    assert [decision.category for decision in decisions] == ["cooking", None, None, "law"]
    assert [decision.model for decision in decisions][1:3] == ["seer", "large"]


class Message(BaseModel):
    role: str
    content: Any = None


@dataclass
class Turn:
    role: str
    content: object


ASKED = ChatCompletionMessage(
    role="assistant",
    content=None,
    tool_calls=[
        ChatCompletionMessageToolCall(id="a", type="function", function=Function(name="f", arguments="{}")),
    ],
)


@pytest.mark.parametrize("kind", [Message, Turn, SimpleNamespace])
def test_messages_may_be_objects(router: Router, kind: type) -> None:
    messages = [
        kind(role="user", content=QUESTION),
        ASKED,
        {"role": "tool", "tool_call_id": "a", "content": "where is my parcel"},
        kind(role="user", content=[{"type": "text", "text": "continue"}]),
    ]
    for query in (messages, tuple(messages), Request(tuple(messages))):
        decision = router.route(query)
        assert (decision.category, decision.query) == ("cooking", QUESTION)


def test_a_class_is_no_message(router: Router) -> None:
    for query in ([Message], [object()], [Turn]):
        with pytest.raises(QueryError):
            router.route(query)


def served(index: Path, provider: FakeProvider, **sections: Any) -> Router:
    places = [
        {"name": model, "model": model, "base_url": provider.base_url, "price": {"input": 1.0, "output": 1.0}}
        for model in ("small", "large")
    ]
    return Router.load(index, config=Config.model_validate({"deployments": places, **sections}))


@pytest.mark.slow
def test_a_pinned_model_answers_an_image_alone_and_messages_as_objects(
    routing_index: Path, provider: FakeProvider
) -> None:
    provider.always(answer("a cat"))
    routes = served(routing_index, provider)
    assert routes.complete([user([IMAGE])], model="small").model == "small"
    assert (
        routes.complete([Message(role="user", content=QUESTION), ASKED, {**RESULT_OF_A}], model="large").text == "a cat"
    )
    sent = provider.requests[-1].body["messages"]
    assert sent[0] == {"role": "user", "content": QUESTION}
    assert sent[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


@pytest.mark.slow
def test_a_cascade_answers_an_image_alone(routing_index: Path, provider: FakeProvider) -> None:
    provider.script(answer(""), answer("a cat"))
    tiers = {"tiers": ["small", "large"]}
    completion = served(routing_index, provider, cascade=tiers, fallback={"models": ["small", "large"]}).complete(
        [user([IMAGE])]
    )
    assert (completion.text, completion.model) == ("a cat", "large")
