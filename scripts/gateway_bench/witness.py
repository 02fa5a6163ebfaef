"""Second witness of requests a second: wrk, if it is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway_bench.load import Setting, body_of
from gateway_bench.servers import Server

ABSENT = "wrk is not on the path, so that no second witness was asked: apt-get install wrk."
_MARK = "(Case 0.)"
_SCRIPT = """
local number = %d
function request()
  number = number + 1
  return wrk.format("POST", nil, %s, %s .. "(Case w" .. number .. ".)" .. %s)
end
"""
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True, slots=True)
class Witnessed:
    """Figures of wrk for one server in one setting.

    Attributes:
        server: its name.
        setting: what was asked.
        rate: requests a second.
        p50_ms, p99_ms: latency.
        failed: answers of another status than 2xx and 3xx, and errors of connections.
    """

    server: str
    setting: Setting
    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


def witness(name: str, server: Server, setting: Setting, seconds: int, folder: Path, number: int) -> Witnessed | None:
    """Load a server with wrk for some seconds; None where there is no wrk.

    Args:
        name: of the server.
        server: gets the requests.
        setting: model, connections and prompt; the answers are whole.
        seconds: length.
        folder: gets wrk's script.
        number: makes the questions differ from those of other calls.
    """
    program = shutil.which("wrk")
    if program is None:
        return None
    before, after = body_of(setting, 0).decode().split(_MARK)
    sent = {"content-type": "application/json", "authorization": f"Bearer {server.key}", **server.headers}
    headers = "{" + ", ".join(f"[{json.dumps(name)}]={json.dumps(value)}" for name, value in sent.items()) + "}"
    script = folder / "witness.lua"
    script.write_text(_SCRIPT % (number * 10**7, headers, _quoted(before), _quoted(after)), encoding="utf-8")
    url = f"{server.url}/chat/completions"
    command = [program, "-t1", f"-c{setting.connections}", f"-d{seconds}s", "--latency", "--timeout", "30s"]
    done = subprocess.run([*command, "-s", str(script), url], capture_output=True, encoding="utf-8", check=True)
    return read_output(name, setting, done.stdout)


def _quoted(text: str) -> str:
    """Return a text as a literal of Lua."""
    return f"[==[{text}]==]"


def read_output(name: str, setting: Setting, output: str) -> Witnessed:
    """Return the figures in wrk's output.

    Raises:
        SystemExit: it has no figures.
    """
    rate = re.search(r"^Requests/sec:\s*([\d.]+)$", output, re.M)
    shares = dict(re.findall(r"^\s*(\d+)%\s+([\d.]+[a-z]+)[ \t]*$", output, re.M))
    if rate is None or "50" not in shares or "99" not in shares:
        raise SystemExit(f"wrk shows no figures:\n{output}")
    others = re.search(r"Non-2xx or 3xx responses:\s*(\d+)", output)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    failed = sum(map(int, (*(others.groups() if others else ()), *(sockets.groups() if sockets else ()))))
    return Witnessed(name, setting, float(rate[1]), _ms(shares["50"]), _ms(shares["99"]), failed)


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def cells(one: Witnessed) -> Sequence[object]:
    """Return the cells of a row."""
    setting = one.setting
    return (
        one.server, setting.model, setting.connections, f"{one.rate:.0f}", f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}",
        one.failed,
    )  # fmt: skip
