"""Real clients from elsewhere: vendors', LangChain's and LiteLLM.

The last two run with the interpreter that has them: ``python -c PROGRAM URL``.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai
from harness.processes import QUIET
from pydantic import BaseModel

from gateway_conformance.rows import CHAT, CODE, MESSAGES, RESPONSES, SOUP, demand, tools_of
from gateway_conformance.served import Served
from gateway_conformance.verdicts import NotRunError
from semroute.testing import Call, answer

TEXT = "Boil the carrots until they are soft."
CALL = Call("read", {"path": "a.py"})

LANGCHAIN = """
import sys
from langchain_openai import ChatOpenAI
from langchain_core.tools import tool
@tool
def read(path: str) -> str:
    "Read a file."
    return "carrots"
model = ChatOpenAI(model="auto", base_url=sys.argv[1] + "/v1", api_key="any", max_retries=0)
print(model.invoke("a recipe for carrot soup").content)
print("".join(piece.content for piece in model.stream("a recipe for carrot soup")))
called = model.bind_tools([read]).invoke("read a.py").tool_calls
print(called[0]["name"], called[0]["args"]["path"])
"""

LITELLM = """
import sys, litellm
asked = dict(model="openai/auto", api_base=sys.argv[1] + "/v1", api_key="any", num_retries=0)
soup = [{"role": "user", "content": "a recipe for carrot soup"}]
print(litellm.completion(messages=soup, **asked).choices[0].message.content)
pieces = litellm.completion(messages=soup, stream=True, **asked)
print("".join(piece.choices[0].delta.content or "" for piece in pieces))
read = {"type": "function", "function": {"name": "read", "parameters": {"type": "object", "properties":
    {"path": {"type": "string"}}, "required": ["path"]}}}
(call,) = litellm.completion(messages=soup, tools=[read], **asked).choices[0].message.tool_calls
print(call.function.name, __import__("json").loads(call.function.arguments)["path"])
"""


class Recipe(BaseModel):
    """Schema that an answer is parsed into."""

    title: str
    minutes: int


def _openai(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0)


def openai_whole(served: Served) -> None:
    """Ask the synchronous client."""
    served.provider.script(answer(TEXT))
    with _openai(served) as client:
        found = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": SOUP}])
    demand(found.choices[0].message.content == TEXT, "another text")


def openai_async(served: Served) -> None:
    """Ask the asynchronous client."""
    served.provider.script(answer(TEXT))

    async def ask() -> str | None:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
            found = await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": SOUP}])
            return found.choices[0].message.content

    demand(asyncio.run(ask()) == TEXT, "another text")


def openai_stream(served: Served) -> None:
    """Stream, with usage at the end."""
    served.provider.script(answer(TEXT))
    with _openai(served) as client:
        chunks = list(
            client.chat.completions.create(
                model="auto",
                messages=[{"role": "user", "content": SOUP}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    demand("".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == TEXT, "another text")
    demand(chunks[-1].usage is not None, "no usage")


def openai_tools(served: Served) -> None:
    """Call a tool, and answer its result."""
    served.provider.script(answer(calls=[CALL]), answer(TEXT))
    history: list[Any] = [{"role": "user", "content": CODE}]
    tools: Any = tools_of(CHAT)
    with _openai(served) as client:
        first = client.chat.completions.create(model="auto", messages=history, tools=tools).choices[0].message
        (call,) = list(first.tool_calls or ())
        history += [first.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "pass"}]
        last = client.chat.completions.create(model="auto", messages=history, tools=tools)
    demand(last.choices[0].message.content == TEXT, "another text")


def openai_parse(served: Served) -> None:
    """Parse an answer into a schema."""
    served.provider.script(answer('{"title": "Soup", "minutes": 20}'))
    with _openai(served) as client:
        found = client.chat.completions.parse(
            model="auto", messages=[{"role": "user", "content": SOUP}], response_format=Recipe
        )
    demand(found.choices[0].message.parsed == Recipe(title="Soup", minutes=20), "another recipe")


def openai_responses(served: Served) -> None:
    """Call a tool through Responses, streamed, and answer its result."""
    served.provider.script(answer(calls=[CALL]), answer(TEXT))
    history: list[Any] = [{"role": "user", "content": CODE}]
    tools: Any = tools_of(RESPONSES)
    with _openai(served) as client:
        with client.responses.stream(model="auto", input=history, tools=tools) as stream:
            for _ in stream:
                pass
            first: Any = stream.get_final_response()
        (call,) = [item for item in first.output if item.type == "function_call"]
        history += [item.model_dump(exclude_none=True) for item in first.output]
        history += [{"type": "function_call_output", "call_id": call.call_id, "output": "pass"}]
        last = client.responses.create(model="auto", input=history, tools=tools)
    demand(last.output_text == TEXT, "another text")


def anthropic_tools(served: Served, *, streaming: bool) -> None:
    """Call a tool through Messages, and answer its result with another model."""
    served.provider.script(answer("I look.", calls=[CALL]), answer(TEXT))
    history: Any = [{"role": "user", "content": CODE}]
    asked: Any = {"max_tokens": 500, "tools": tools_of(MESSAGES)}
    with anthropic.Anthropic(base_url=served.url, api_key="any", max_retries=0) as client:
        if streaming:
            with client.messages.stream(model="claude-auto", messages=history, **asked) as stream:
                first: Any = stream.get_final_message()
        else:
            first = client.messages.create(model="claude-auto", messages=history, **asked)
        (call,) = [block for block in first.content if block.type == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "pass"}
        history += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        last: Any = client.messages.create(model="large", messages=history, **asked)
    demand(last.content[0].text == TEXT, "another text")


def elsewhere(program: str, package: str, python: Path | None, served: Served) -> None:
    """Run a client's program with an interpreter that has its package.

    Raises:
        NotRunError: there is none.
    """
    if python is None:
        raise NotRunError(f"no --python with {package}")
    if subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False, timeout=120).returncode:
        raise NotRunError(f"{python.name} has no {package}")
    served.provider.script(answer(TEXT), answer(TEXT), answer(calls=[CALL]))
    done = subprocess.run(
        [python, "-c", program, served.url],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "NO_PROXY": "127.0.0.1", **QUIET},
        timeout=120,
    )
    demand(done.returncode == 0, done.stderr.strip().rpartition("\n")[2])
    demand(done.stdout.splitlines()[-3:] == [TEXT, TEXT, "read a.py"], f"another answer: {json.dumps(done.stdout)}")


def clients(python: Path | None) -> Mapping[str, Callable[[Served], None]]:
    """Return the checks by client."""
    return {
        f"openai {openai.__version__}, synchronous": openai_whole,
        "openai, asynchronous": openai_async,
        "openai, streamed": openai_stream,
        "openai, tools": openai_tools,
        "openai, parse": openai_parse,
        "openai, responses": openai_responses,
        f"anthropic {anthropic.__version__}": partial(anthropic_tools, streaming=False),
        "anthropic, streamed": partial(anthropic_tools, streaming=True),
        "LangChain's ChatOpenAI": partial(elsewhere, LANGCHAIN, "langchain_openai", python),
        "LiteLLM as a client": partial(elsewhere, LITELLM, "litellm", python),
    }
