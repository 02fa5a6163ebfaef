"""Processes of ``semroute serve``: signals, several workers, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from resilience.redis_server import OwnRedis, own_redis
from server.collector import Collector, collecting
from server.test_reload import written

from semroute.config import Log
from semroute.outcomes.log import open_log
from semroute.server.keys import create_key
from semroute.testing import FakeProvider, answer, fail

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of POSIX")

WAIT_S = 60
CHAT: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "recipe for carrot soup"}]}
SLOW = {**CHAT, "stream": True, "messages": [{"role": "user", "content": "recipe for " + "carrot soup " * 15}]}


def soon(is_so: Callable[[], bool]) -> bool:
    """Wait until it is so, at most a minute; a server that is not there yet is not an error."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            if is_so():
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    return False


@dataclass
class Process:
    """A running ``semroute serve``."""

    process: subprocess.Popen[str]
    url: str
    folder: Path
    provider: FakeProvider

    def errors(self) -> str:
        """Return what it wrote on standard error so far."""
        return (self.folder / "stderr").read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Return its log lines, which all are JSON."""
        return [json.loads(line) for line in self.errors().splitlines() if line.startswith("{")]

    def write(self, **sections: Any) -> None:
        """Replace the configuration, with a log of outcomes in the folder."""
        log = {"enabled": True, "url": f"sqlite:///{self.folder}/log.db"}
        text = written(self.provider, **{"log": log, **sections})
        (self.folder / "next.yaml").write_text(text)
        (self.folder / "next.yaml").replace(self.folder / "semroute.yaml")

    def models(self) -> list[str]:
        """Return the names that it serves."""
        return [one["id"] for one in httpx.get(f"{self.url}/v1/models").json()["data"]]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


@pytest.fixture
def start(provider: FakeProvider, routing_index: Path, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start ``semroute serve`` with options, and wait until it is ready."""
    running: list[Process] = []

    def run(*options: str, **sections: Any) -> Process:
        port = _free_port()
        served = Process(None, f"http://127.0.0.1:{port}", tmp_path, provider)  # type: ignore[arg-type]
        served.write(**sections)
        command = [sys.executable, "-m", "semroute", "serve", "--port", str(port), "--index", str(routing_index)]
        with (tmp_path / "stdout").open("w") as out, (tmp_path / "stderr").open("w") as err:
            served.process = subprocess.Popen([*command, *options], cwd=tmp_path, stdout=out, stderr=err, text=True)
        running.append(served)
        assert soon(lambda: httpx.get(f"{served.url}/readyz").status_code == 200), served.errors()
        return served

    yield run
    for served in running:
        if served.process.poll() is None:
            served.process.terminate()
            try:
                served.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                served.process.kill()
                served.process.wait()


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_at_sigterm_a_running_stream_ends_new_requests_are_refused_and_the_log_is_whole(
    start: Callable[..., Process], workers: int
) -> None:
    served = start("--log-format", "json", "--workers", str(workers))
    served.provider.set_speed(token_s=0.1)
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=SLOW, timeout=WAIT_S) as answered:
        lines = answered.iter_lines()
        next(lines)
        served.process.send_signal(signal.SIGTERM)
        if workers == 1:
            # Of several workers those without a request end at once, and the others refuse.
            assert soon(lambda: httpx.get(f"{served.url}/readyz").status_code == 503)
            refused = httpx.post(f"{served.url}/v1/messages", json={**CHAT, "max_tokens": 5})
            assert refused.status_code == 503
            assert refused.json()["error"]["type"] == "overloaded_error"
            assert int(refused.headers["retry-after"]) >= 1
            assert httpx.get(f"{served.url}/healthz").status_code == 200
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert served.process.wait(WAIT_S) == 143
    assert [line["status"] for line in served.lines() if line.get("streaming")] == [200]
    log = open_log(_log_config(served), os.environ)
    assert [one.error_kind for one in log.outcomes()] == [None]
    log.close()


def _log_config(served: Process) -> Any:
    from semroute.config import load_config

    return load_config(served.folder / "semroute.yaml").log


@pytest.mark.slow
def test_the_drain_has_a_limit_and_what_is_cut_is_booked(start: Callable[..., Process]) -> None:
    served = start("--drain", "0.2", "--log-format", "json")
    served.provider.set_speed(token_s=5)
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=SLOW, timeout=WAIT_S) as answered:
        next(answered.iter_lines())
        assert served.end() == 143
    log = open_log(_log_config(served), os.environ)
    assert [one.error_kind for one in log.outcomes()] == ["Cancelled"]
    log.close()


@pytest.mark.slow
def test_an_idle_server_ends_at_once_with_the_documented_code(start: Callable[..., Process]) -> None:
    assert start().end() == 143


@pytest.mark.slow
def test_sighup_reloads_even_where_files_are_not_checked(start: Callable[..., Process]) -> None:
    served = start("--no-reload")
    served.write(groups={"fresh": ["small"]})
    served.process.send_signal(signal.SIGHUP)
    assert soon(lambda: "fresh" in served.models())
    assert served.process.poll() is None
    served.write(groups={"wrong": ["nobody"]})
    served.process.send_signal(signal.SIGHUP)
    assert soon(lambda: "the old one goes on serving" in served.errors())
    assert "fresh" in served.models()


def _workers(served: Process) -> list[int]:
    """Return the process ids of the workers."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(served.process.pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_while_the_others_serve(start: Callable[..., Process]) -> None:
    served = start("--workers", "2", "--log-format", "json")
    assert soon(lambda: len(_workers(served)) == 2 and "listens on" in (served.folder / "stdout").read_text())
    assert "budget holds once per worker" in served.errors()
    victim, *others = _workers(served)
    os.kill(victim, signal.SIGKILL)
    assert soon(lambda: victim not in (now := _workers(served)) and len(now) == 2 and {*others} <= {*now})
    assert soon(lambda: httpx.post(f"{served.url}/v1/chat/completions", json=CHAT).status_code == 200)
    assert re.search(rf"worker {victim} has died", served.errors())
    assert served.end() == 143


@pytest.mark.slow
def test_what_killed_workers_answered_is_in_the_log(start: Callable[..., Process]) -> None:
    served = start("--workers", "2", "--no-reload")
    assert soon(lambda: len(_workers(served)) == 2)
    with httpx.Client(base_url=served.url) as client:
        answered = {client.post("/v1/chat/completions", json=CHAT).json()["id"] for _ in range(5)}
    for victim in _workers(served):
        os.kill(victim, signal.SIGKILL)
    assert soon(lambda: httpx.post(f"{served.url}/v1/chat/completions", json=CHAT).status_code == 200)
    assert served.end() == 143
    with open_log(Log(url=f"sqlite:///{served.folder}/log.db"), {}) as log:
        assert answered <= {f"chatcmpl-{one.id}" for one in log.outcomes()}
    assert list((served.folder / ".semroute/spool").iterdir()) == []


@pytest.mark.slow
def test_workers_whose_supervisor_is_killed_end_too(start: Callable[..., Process]) -> None:
    served = start("--workers", "2")
    workers = _workers(served)
    served.process.kill()
    served.process.wait(WAIT_S)
    assert soon(lambda: not any(_is_running(worker) for worker in workers))


def _is_running(process: int) -> bool:
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    ).stdout
    return bool(found.strip()) and not found.startswith("Z")


@pytest.mark.slow
def test_any_worker_shows_the_counts_of_all_and_all_reload(start: Callable[..., Process]) -> None:
    served = start("--workers", "2")
    assert soon(lambda: "listens on" in (served.folder / "stdout").read_text())
    for _ in range(20):
        assert httpx.post(f"{served.url}/v1/chat/completions", json=CHAT).status_code == 200
    for _ in range(6):  # each on a new connection, so that both workers are asked
        text = httpx.get(f"{served.url}/metrics").text
        assert 'semroute_decisions_total{strategy="semantic"} 20.0' in text
        assert 'semroute_breaker_state{deployment="small-1"} 0.0' in text
    served.write(groups={"fresh": ["small"]})
    served.process.send_signal(signal.SIGHUP)
    assert soon(lambda: _reloads(served) >= 2)
    assert all("fresh" in served.models() for _ in range(6))
    _, secret = create_key(served.folder / ".semroute/keys.json", "admin", rights=["reload", "metrics"])
    known = {"authorization": f"Bearer {secret}"}
    before = _reloads(served, known)
    assert httpx.post(f"{served.url}/v1/reload", headers=known).json() == {"reloaded": None, "workers": "told"}
    # At least: files that have changed are reloaded without being told, too.
    assert soon(lambda: _reloads(served, known) >= before + 2)


def _reloads(served: Process, headers: dict[str, str] | None = None) -> float:
    text = httpx.get(f"{served.url}/metrics", headers=headers or {}).text
    found = re.search(r'semroute_reloads_total\{result="ok"\} ([0-9.]+)', text)
    return 0.0 if found is None else float(found[1])


@pytest.fixture
def redis() -> Iterator[OwnRedis]:
    with own_redis() as running:
        yield running


@pytest.mark.slow
def test_with_redis_a_key_has_its_limit_once_for_all_workers(
    start: Callable[..., Process], redis: OwnRedis, tmp_path: Path
) -> None:
    secret = create_key(tmp_path / ".semroute" / "keys.json", "five a minute", rpm=5)[1]
    served = start("--workers", "2", state=redis.url)
    assert soon(lambda: "listens on" in (served.folder / "stdout").read_text())
    assert "per worker" not in served.errors()
    headers = {"authorization": f"Bearer {secret}"}
    statuses = [
        httpx.post(f"{served.url}/v1/chat/completions", json=CHAT, headers=headers).status_code for _ in range(20)
    ]
    assert statuses[:5] == [200] * 5
    # The window slides: one more may come in during a slow run, and none of another worker's count.
    assert statuses.count(200) <= 6
    assert set(statuses) == {200, 429}


@pytest.mark.slow
def test_workers_whose_configuration_is_wrong_end_with_its_error(provider: FakeProvider, tmp_path: Path) -> None:
    (tmp_path / "semroute.yaml").write_text("deploymets: []\n")
    command = [sys.executable, "-m", "semroute", "serve", "--port", "0", "--workers", "2"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 2
    assert "deploymets" in ended.stderr


@pytest.mark.slow
def test_workers_whose_index_is_missing_end_with_its_error(provider: FakeProvider, tmp_path: Path) -> None:
    (tmp_path / "semroute.yaml").write_text(written(provider))
    command = [sys.executable, "-m", "semroute", "serve", "--port", "0", "--workers", "2", "--index", "nowhere"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode in (1, 2)
    assert "nowhere" in ended.stderr
    assert "could not start" in ended.stderr


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@pytest.mark.slow
def test_a_failover_is_one_trace_of_the_client_s_that_the_drain_sends(
    start: Callable[..., Process], collector: Collector
) -> None:
    served = start("--traces", collector.url)
    served.provider.script(fail(503), answer("Boil the soup."))
    pair = {"model": "both", "messages": CHAT["messages"]}  # a group of two models, with a deployment each
    assert httpx.post(f"{served.url}/v1/chat/completions", json=pair, headers=PARENT).status_code == 200
    assert served.end() == 143
    (request,) = collector.spans("server")  # none of the probes
    (decision,) = collector.spans("internal")
    first, second = collector.spans("client")
    assert {span.trace for span in collector.spans()} == {TRACE}
    assert {span.service for span in collector.spans()} == {"semroute"}
    assert request.parent == "b7ad6b7169203331"
    assert {span.parent for span in (decision, first, second)} == {request.id}
    assert (request.name, request.attributes["http.response.status_code"]) == ("POST /v1/chat/completions", 200)
    assert (first.attributes["error.type"], first.is_error) == ("OverloadedError", True)
    assert ("error.type" in second.attributes, second.is_error) == (False, False)
    assert second.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert request.attributes["semroute.deployment"] == second.attributes["semroute.deployment"]
    assert request.attributes["semroute.cost_usd"] >= second.attributes["semroute.cost_usd"] > 0
    assert not [body for body in collector.bodies if b"carrot" in body or b"Boil" in body]
    assert all("traceparent" not in one.headers for one in served.provider.requests)


@pytest.mark.slow
def test_every_worker_sends_its_spans_where_the_environment_names_a_collector(
    start: Callable[..., Process], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gateway")
    cascade = {"tiers": ["small", "large"]}
    served = start("--workers", "2", cascade=cascade, categories={"cooking": {"models": ["small", "large"]}})
    served.provider.script(answer(""), answer("Boil the soup."))
    assert httpx.post(f"{served.url}/v1/chat/completions", json=CHAT).status_code == 200
    assert served.end() == 143
    assert {span.service for span in collector.spans()} == {"gateway"}
    tiers = [(one.attributes["semroute.model"], one.attributes["semroute.tier"]) for one in collector.spans("client")]
    assert tiers == [("small", 0), ("large", 1)]
    (request,) = collector.spans("server")
    assert request.attributes["semroute.tier"] == 1


@pytest.mark.slow
def test_spans_of_a_stream_end_with_it_and_with_a_client_that_leaves(
    start: Callable[..., Process], collector: Collector
) -> None:
    served = start("--traces", collector.url)
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=SLOW, timeout=WAIT_S) as answered:
        assert "[DONE]" in answered.read().decode()
    served.provider.set_speed(token_s=5)
    with httpx.stream("POST", f"{served.url}/v1/messages", json={**SLOW, "max_tokens": 99}, timeout=WAIT_S) as left:
        next(left.iter_lines())
    assert soon(lambda: "semroute_open_streams 0.0" in httpx.get(f"{served.url}/metrics").text)
    assert served.end() == 143
    (whole, cut), (streamed, given_up) = collector.spans("server"), collector.spans("client")
    assert streamed.attributes["gen_ai.usage.output_tokens"] > 0
    assert (streamed.parent, given_up.parent) == (whole.id, cut.id)
    assert whole.start_ns < streamed.start_ns < streamed.end_ns <= whole.end_ns
    assert (cut.attributes["error.type"], cut.is_error) == ("ClientLeft", False)
    assert (given_up.attributes["error.type"], given_up.is_error) == ("Abandoned", False)


@pytest.mark.slow
def test_traces_that_cannot_be_sent_as_asked_are_an_error(provider: FakeProvider, tmp_path: Path) -> None:
    (tmp_path / "semroute.yaml").write_text(written(provider))
    for options, message in (
        (("--traces", "localhost:4318"), "give one such as http://localhost:4318"),
        (("--traces", "http://localhost:4318", "--trace-upstream", "small-9"), "there is no such deployment"),
    ):
        command = [sys.executable, "-m", "semroute", "serve", "--port", "0", *options]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert ended.returncode == 2
        assert message in ended.stderr
        assert "Traceback" not in ended.stderr
