from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_S

from semroute.config import Deployment, Timeouts
from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    ContentFilterError,
    DispatchError,
    MalformedResponseError,
    OverloadedError,
    ProviderTimeoutError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.providers import openai, openai_wire
from semroute.providers.openai import Assembly
from semroute.providers.target import CallTarget
from semroute.types import Completion, Delta, Request, TokenLogprob, ToolCall, Usage

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
HELLO = Request(({"role": "user", "content": "hello out there"},))
T = TypeVar("T")


def target(url: str, **more: Any) -> CallTarget:
    row = {"provider": "vllm", "upstream_model": "gpt-test", "api_key_env": ("TEST_KEY",), **more}
    return CallTarget(Deployment(name="spot", model="small", base_url=url, **row), "TEST_KEY", KEY)


def run(work: Callable[[httpx.AsyncClient], Awaitable[T]], **options: Any) -> T:
    async def with_client() -> T:
        async with httpx.AsyncClient(trust_env=False, verify=False, **options) as client:
            return await work(client)

    return asyncio.run(with_client())


async def read(client: httpx.AsyncClient, where: CallTarget, *, within_s: float = 10.0) -> list[Delta | Completion]:
    async with aclosing(openai.stream(client, where, HELLO, within_s=within_s)) as pieces:
        return [piece async for piece in pieces]


def streamed(raw: Any, *scripts: list[Any], **more: Any) -> tuple[list[str], Completion]:
    """The texts of the deltas, and the completion at the end."""

    async def work(client: httpx.AsyncClient) -> list[Delta | Completion]:
        async with raw.serve(*scripts) as server:
            return await read(client, target(server.url, **more))

    *deltas, completion = run(work)
    assert all(isinstance(delta, Delta) and delta.is_answer for delta in deltas)
    assert isinstance(completion, Completion)
    return [delta.text for delta in deltas if isinstance(delta, Delta) and delta.text], completion


def broken(raw: Any, script: list[Any], *, within_s: float = 10.0, **more: Any) -> DispatchError:
    async def work(client: httpx.AsyncClient) -> DispatchError:
        async with raw.serve(script) as server:
            with pytest.raises(DispatchError) as caught:
                await read(client, target(server.url, **more), within_s=within_s)
        return caught.value

    error = run(work)
    assert error.deployment == "spot"
    assert KEY not in "".join(traceback.format_exception(error)) + repr(error)
    return error


def chunk(text: str | None = None, reason: str | None = None, **delta: Any) -> dict[str, Any]:
    content = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**content, **delta}, "finish_reason": reason}
    return {"object": "chat.completion.chunk", "model": "gpt-test-2026", "choices": [choice]}


def piece(index: int | None, id: str | None = None, name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


COUNT = {"model": "gpt-test-2026", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
WHOLE = (chunk("", role="assistant"), chunk("Hel"), chunk("lo"), chunk(None, "stop"), COUNT)


def test_an_answer_arrives_in_pieces_and_ends_with_the_whole(raw: Any) -> None:
    texts, answer = streamed(raw, [raw.head()[0], 0.05, *raw.events(*WHOLE)[1:]])
    assert texts == ["Hel", "lo"]
    assert (answer.text, answer.finish_reason, answer.usage) == ("Hello", "stop", Usage(3, 2))
    assert (answer.model, answer.deployment, answer.upstream_model) == ("small", "spot", "gpt-test-2026")
    assert answer.first_token_ms is not None
    assert 50 <= answer.first_token_ms <= answer.latency_ms


@pytest.mark.slow
def test_the_first_token_is_the_first_content_and_not_the_first_event(raw: Any) -> None:
    head, *events = raw.events(*WHOLE)
    _, answer = streamed(raw, [head, events[0], 0.1, *events[1:]])
    assert answer.first_token_ms is not None
    assert answer.first_token_ms >= 100


def test_a_stream_is_the_same_however_its_bytes_are_cut(raw: Any) -> None:
    text = "".join(f"data: {json.dumps(datum, ensure_ascii=False)}\r\n\r\n" for datum in (chunk("é😀"), *WHOLE))
    content = (text + "data: [DONE]\r\n\r\n").encode()
    texts, answer = streamed(raw, raw.bytes(*(content[i : i + 3] for i in range(0, len(content), 3))))
    assert (texts, answer.usage) == (["é😀", "Hel", "lo"], Usage(3, 2))


def test_what_is_sent_asks_for_a_stream_with_its_count(raw: Any) -> None:
    async def work(client: httpx.AsyncClient) -> list[Any]:
        async with raw.serve(raw.events(*WHOLE)) as server:
            await read(client, target(server.url))
            return list(server.bodies)

    (body,) = run(work)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_a_server_that_does_not_know_the_option_answers_without_a_count(raw: Any) -> None:
    _, answer = streamed(raw, raw.events(*WHOLE[:-1]))
    assert (answer.text, answer.usage) == ("Hello", None)


@pytest.mark.parametrize(
    "told",
    [
        {"error": {"message": "Unrecognized argument: stream_options"}},
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "not permitted"}]},
    ],
)
def test_a_server_that_refuses_the_option_is_asked_again_without_it(raw: Any, told: object) -> None:
    refusal = raw.answer(told, "422 Unprocessable")

    async def work(client: httpx.AsyncClient) -> tuple[list[Any], Any]:
        async with raw.serve(refusal, raw.events(*WHOLE)) as server:
            return server.bodies, (await read(client, target(server.url)))[-1]

    bodies, answer = run(work)
    assert answer.text == "Hello"
    assert ["stream_options" in body for body in bodies] == [True, False]


def test_another_refusal_is_not_asked_again(raw: Any) -> None:
    error = broken(raw, raw.answer({"error": {"message": "bad stream"}}, "400 Bad Request"))
    assert type(error) is RequestError


@pytest.mark.parametrize("done", [True, False])
def test_a_finish_reason_ends_the_answer_with_and_without_done(raw: Any, done: bool) -> None:
    assert streamed(raw, raw.events(*WHOLE, done=done))[1].text == "Hello"


def test_done_ends_the_answer_without_a_finish_reason(raw: Any) -> None:
    _, answer = streamed(raw, raw.events(chunk("Hello")))
    assert (answer.text, answer.finish_reason) == ("Hello", None)


@pytest.mark.parametrize("end", ["ends", "is cut", "closes", "is reset"])
def test_a_stream_that_stops_before_the_answer_does_is_broken_and_keeps_its_count(raw: Any, end: str) -> None:
    begun = [*raw.head(), *raw.pieces(chunk("Hel"), COUNT)]
    script = {
        "ends": [*begun, b"0\r\n\r\n"],
        "is cut": [*begun, b"40\r\ndata: {"],
        "closes": begun,
        "is reset": [*begun, 0.05, raw.cut],
    }[end]
    error = broken(raw, script)
    assert type(error) is BrokenStreamError
    assert error.usage == Usage(3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["cut", "silent"])
def test_what_comes_after_the_finish_reason_is_not_worth_an_error(raw: Any, end: str) -> None:
    script = [*raw.head(), *raw.pieces(chunk("Hello", "stop")), 0.05, raw.cut if end == "cut" else raw.listen]
    _, answer = streamed(raw, script, timeouts=Timeouts(idle_s=0.1))
    assert (answer.text, answer.usage) == ("Hello", None)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"message": f"no {KEY}", "code": 401}}, AuthenticationError),
        ({"error": {"message": "busy", "type": "overloaded_error"}}, OverloadedError),
        ({"error": {"message": "slow", "code": "rate_limit_exceeded"}}, RateLimitError),
        ({"error": {"message": "oops", "type": "server_error"}}, BrokenStreamError),
        ({"error": "oops"}, BrokenStreamError),
        ({"object": "error", "message": "oops", "code": 500}, BrokenStreamError),
        ({**chunk("x"), "error": {"message": "oops", "code": 502}}, BrokenStreamError),
        ({"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 429}}]}, RateLimitError),
        ("{not json", MalformedResponseError),
        ("[1]", MalformedResponseError),
        ({"choices": 3}, MalformedResponseError),
    ],
)
@pytest.mark.parametrize("begun", [(), (chunk("Hel"), COUNT)])
def test_an_event_that_is_no_chunk_is_the_error_that_it_tells_of(
    raw: Any, begun: tuple[object, ...], event: object, kind: type[DispatchError]
) -> None:
    error = broken(raw, raw.events(*begun, event, chunk("more", "stop")))
    assert type(error) is kind
    assert error.usage == (Usage(3, 2) if begun else None)


def test_an_event_of_the_type_error_is_one_whatever_it_holds(raw: Any) -> None:
    assert type(broken(raw, raw.bytes(b"event: error\ndata: gone\n\n"))) is BrokenStreamError


def test_empty_events_and_comments_are_passed_over(raw: Any) -> None:
    noise = [b": OPENROUTER PROCESSING\n\n", b"data:\n\n", b'event: ping\ndata: {"type": "ping"}\n\n']
    head, *rest = raw.events(*WHOLE)
    assert streamed(raw, [head, *raw.bytes(*noise, end=False)[1:], *rest])[0] == ["Hel", "lo"]


@pytest.mark.parametrize("data", [(), (COUNT,), (chunk("", role="assistant"),)])
def test_a_stream_without_an_answer_is_malformed(raw: Any, data: tuple[object, ...]) -> None:
    assert type(broken(raw, raw.events(*data))) is MalformedResponseError


def test_tool_calls_are_put_together_by_index(raw: Any) -> None:
    texts, answer = streamed(
        raw,
        raw.events(
            chunk(None, role="assistant", tool_calls=[piece(0, "a", "add", "")]),
            chunk(None, tool_calls=[piece(1, "b", "now", ""), piece(0, None, None, '{"x"')]),
            chunk(None, tool_calls=[piece(0, None, None, ": 1}")]),
            chunk(None, "tool_calls"),
            COUNT,
        ),
    )
    assert texts == []
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")
    assert answer.tool_calls == (ToolCall("a", "add", '{"x": 1}'), ToolCall("b", "now", "{}"))
    assert answer.first_token_ms is not None


@pytest.mark.parametrize("index", [0, None])
def test_whole_calls_under_one_index_stay_apart(raw: Any, index: int | None) -> None:
    calls = [piece(index, "a", "add", "{}"), piece(index, "b", "add", {"x": 1})]
    _, answer = streamed(raw, raw.events(chunk(None, "stop", tool_calls=calls)))
    assert answer.tool_calls == (ToolCall("a", "add", "{}"), ToolCall("b", "add", '{"x": 1}'))


def test_a_refusal_is_an_answer_without_text(raw: Any) -> None:
    texts, answer = streamed(raw, raw.events(chunk(refusal="I "), chunk(refusal="won't"), chunk(None, "stop")))
    assert texts == []
    assert (answer.text, answer.refusal, answer.finish_reason) == ("", "I won't", "refusal")


def test_a_filter_that_leaves_nothing_is_an_error_with_the_tokens_it_cost(raw: Any) -> None:
    error = broken(raw, raw.events(chunk(None, "content_filter"), COUNT))
    assert type(error) is ContentFilterError
    assert error.usage == Usage(3, 2)
    _, answer = streamed(raw, raw.events(chunk("up to he"), chunk(None, "content_filter")))
    assert (answer.text, answer.finish_reason) == ("up to he", "content_filter")


@pytest.mark.parametrize("reason", ["abort", "error", "insufficient_system_resource"])
def test_an_answer_that_the_server_gives_up_is_no_answer(raw: Any, reason: str) -> None:
    error = broken(raw, raw.events(chunk("Hel"), chunk(None, reason), COUNT))
    assert type(error) is UnavailableError
    assert error.usage == Usage(3, 2)


def test_logprobs_of_all_pieces_are_kept(raw: Any) -> None:
    data = []
    for token, logprob in (("a", -0.5), ("b", -1.5)):
        datum = chunk(token)
        datum["choices"][0]["logprobs"] = {"content": [{"token": token, "logprob": logprob}]}
        data.append(datum)
    _, answer = streamed(raw, raw.events(*data))
    assert answer.logprobs == (TokenLogprob("a", -0.5), TokenLogprob("b", -1.5))


def test_other_choices_than_the_first_are_not_mixed_in(raw: Any) -> None:
    other = chunk("other")
    other["choices"][0]["index"] = 1
    assert streamed(raw, raw.events(other, *WHOLE))[1].text == "Hello"


def test_a_failure_before_the_stream_is_the_error_of_its_status(raw: Any) -> None:
    error = broken(raw, raw.answer({"error": {"message": KEY}}, "429 No", retry_after="3"))
    assert (type(error), error.wait_s) == (RateLimitError, 3.0)


@pytest.mark.slow
def test_the_waits_of_the_deployment_hold(raw: Any) -> None:
    silent = [*raw.head(), *raw.pieces(chunk("Hel")), raw.listen]
    assert type(broken(raw, silent, timeouts=Timeouts(idle_s=0.05))) is ProviderTimeoutError
    assert type(broken(raw, [raw.listen], timeouts=Timeouts(first_token_s=0.05))) is ProviderTimeoutError
    drip = [*raw.head(), *([raw.pieces(chunk("x"))[0], 0.02] * 50_000)]
    assert type(broken(raw, drip, within_s=0.1)) is ProviderTimeoutError


ONE_PLACE = httpx.Limits(max_connections=1, max_keepalive_connections=1)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["aclose", "cancel"])
def test_leaving_early_closes_the_connection_and_frees_its_place(raw: Any, way: str) -> None:
    held = [*raw.head(), *raw.pieces(chunk("Hel")), raw.listen]

    async def work(client: httpx.AsyncClient) -> Any:
        async with raw.serve(held, raw.events(*WHOLE)) as server:
            where = target(server.url)
            if way == "aclose":
                pieces = openai.stream(client, where, HELLO, within_s=10)
                assert await anext(pieces) == Delta("Hel")
                await pieces.aclose()
            else:
                task = asyncio.ensure_future(read(client, where))
                while not server.bodies:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.02)  # the answer begins to be read
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            async with asyncio.timeout(PATIENCE_S):
                await server.left.wait()
            return (await read(client, where))[-1]

    assert run(work, limits=ONE_PLACE).text == "Hello"


def test_a_stream_that_was_read_to_its_end_gives_its_connection_to_the_next(raw: Any) -> None:
    async def work(client: httpx.AsyncClient) -> int:
        async with raw.serve(raw.events(*WHOLE)) as server:
            for _ in range(3):
                await read(client, target(server.url))
            return int(server.connections)

    assert run(work) == 1


@pytest.mark.slow
def test_a_server_that_never_ends_its_stream_does_not_hold_the_answer(raw: Any) -> None:
    script = [*raw.head(), *raw.pieces(*WHOLE, "[DONE]"), raw.listen]
    _, answer = streamed(raw, script)
    assert answer.text == "Hello"
    assert answer.latency_ms < 5000


@pytest.mark.slow
def test_many_streams_at_once_are_not_mixed_up(raw: Any) -> None:
    async def work(client: httpx.AsyncClient) -> list[list[Delta | Completion]]:
        scripts = [[*raw.head(), *[step for n in range(5) for step in (raw.pieces(chunk(f"{s}.{n} "))[0], 0.01)],
                    *raw.pieces(chunk(None, "stop"), "[DONE]"), b"0\r\n\r\n"] for s in range(50)]  # fmt: skip
        async with raw.serve(*scripts) as server:
            return await asyncio.gather(*(read(client, target(server.url)) for _ in scripts))

    answers = [pieces[-1] for pieces in run(work)]
    texts = {answer.text for answer in answers if isinstance(answer, Completion)}
    assert texts == {"".join(f"{s}.{n} " for n in range(5)) for s in range(50)}


TEXTS = st.lists(st.text(max_size=5), max_size=6)


@pytest.mark.slow
@given(TEXTS, st.lists(st.tuples(st.text("ab{}:", max_size=6), st.integers(1, 4)), max_size=4))
def test_an_assembled_answer_is_what_was_cut_into_pieces(texts: list[str], calls: list[tuple[str, int]]) -> None:
    assembly, deltas = Assembly(), []
    for text in texts:
        deltas.append(assembly.add(openai_wire.Chunk.model_validate(chunk(text))).text)
    for index, (arguments, step) in enumerate(calls):
        assembly.add(openai_wire.Chunk.model_validate(chunk(None, tool_calls=[piece(index, f"id{index}", "f", "")])))
        for start in range(0, len(arguments), step):
            part = piece(index, None, None, arguments[start : start + step])
            assembly.add(openai_wire.Chunk.model_validate(chunk(None, tool_calls=[part])))
    message = assembly.answer().message
    assert deltas == texts
    assert message.content == "".join(texts)
    assert [openai_wire.as_text(call.function.arguments) for call in message.tool_calls or ()] == [
        each for each, _ in calls
    ]
