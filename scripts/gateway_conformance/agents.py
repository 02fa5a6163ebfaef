"""Coding agents from npm, each with one scripted task.

It is two commands, then a last word.

The double plays the model: it asks for the agent's own shell tool twice, and the files that the commands write show
that the calls and their results came through. An agent gets a home folder and an environment of its own, with the
configuration that ``semroute connect`` writes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gateway_conformance.rows import demand
from gateway_conformance.served import Served
from gateway_conformance.verdicts import NotRunError
from semroute.testing import Call, Reply, answer
from semroute.testing.answers import RecordedRequest
from semroute.workflows.connect import AGENTS, connect

TASK = "Write the two files with the shell tool."
SHELLS = ("Bash", "bash", "shell", "shell_command", "exec_command", "local_shell")
LAST_WORD = "Both files are written."
LIMIT_S = 90
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "codex": ("codex", "exec", "--skip-git-repo-check", "--sandbox", "workspace-write", TASK),
    "claude-code": ("claude", "-p", TASK, "--model", "claude-auto", "--allowedTools", "Bash"),
    "opencode": ("opencode", "run", "--model", "semroute/auto", TASK),
}
PACKAGES = {"codex": "@openai/codex", "claude-code": "@anthropic-ai/claude-code", "opencode": "opencode-ai"}


def scripted(request: RecordedRequest) -> Reply | None:
    """Answer an agent: a call of its shell tool, twice, then a last word."""
    body = request.body if isinstance(request.body, dict) else {}
    tools = [tool.get("function", tool) for tool in body.get("tools") or ()]
    shell = next((tool for tool in tools if tool.get("name") in SHELLS), None)
    if shell is None:
        return answer("A title")
    done = sum(_results(message) for message in body["messages"])
    if done == 2:
        return answer(LAST_WORD)
    call = Call(shell["name"], _arguments(shell, f"echo done > file{done}.txt"))
    # A model of Anthropic's that is asked to think does so before it calls a tool.
    return answer("I write a file.", calls=[call], reasoning="A file first." if body.get("thinking") else "")


def _results(message: Mapping[str, Any]) -> int:
    """Return the number of tool results in a message of either vendor."""
    blocks = message["content"] if isinstance(message.get("content"), list) else []
    return int(message.get("role") == "tool") + len([block for block in blocks if block.get("type") == "tool_result"])


def _arguments(shell: Mapping[str, Any], command: str) -> dict[str, object]:
    """Return arguments that fit the tool's own schema."""
    properties = (shell.get("parameters") or shell["input_schema"])["properties"]
    key = "cmd" if "cmd" in properties else "command"
    is_list = properties[key].get("type") == "array"
    arguments: dict[str, object] = {key: ["bash", "-c", command] if is_list else command}
    return arguments | ({"description": "Write a file"} if "description" in properties else {})


def run_agent(name: str, programs: Path | None, folder: Path, served: Served) -> None:
    """Run an agent on the task.

    Raises:
        NotRunError: it is not installed.
    """
    program, *arguments = COMMANDS[name]
    if programs is None or not (programs / program).exists():
        raise NotRunError(f"npm install {PACKAGES[name]}, and --agents node_modules/.bin")
    home, work = folder / name, folder / name / "work"
    work.mkdir(parents=True)
    # Nothing of the caller's environment, and least of all its keys.
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "LANG": "C.UTF-8", "CI": "1"}
    connect(AGENTS[name], served.url, home=home, env=env).apply()
    served.provider.always(scripted)
    try:
        done = subprocess.run(
            [programs / program, *arguments],
            cwd=work,
            env=env,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        demand(False, f"no end within {LIMIT_S} s, after {len(served.provider.requests)} requests")
        return
    finally:
        served.provider.always(None)
    last = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
    written = sorted(path.name for path in work.glob("file*.txt"))
    demand(written == ["file0.txt", "file1.txt"], f"ended with {done.returncode}, wrote {written}: {last}")
    demand(LAST_WORD in done.stdout, f"the last word is missing: {last}")


def agents(programs: Path | None, folder: Path) -> Mapping[str, Callable[[Served], None]]:
    """Return the checks by agent."""
    return {name: partial(run_agent, name, programs, folder) for name in COMMANDS}
