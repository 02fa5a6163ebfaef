from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.testing import FakeProvider, error_event, fail, reset_after

SCRIPTS = Path(__file__).parents[2] / "scripts"


def part(name: str) -> ModuleType:
    return __import__(f"gateway_bench.{name}", fromlist=["x"])


@pytest.mark.slow
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_enough_others_do_not_exceed(values: list[float], percent: int) -> None:
    found = part("figures").percentile(values, percent / 100)
    within = sum(value <= found for value in values)
    below = sum(value < found for value in values)
    assert found in values
    assert 100 * within >= percent * len(values)
    assert 100 * below < percent * len(values)


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_percentile_of_nothing_or_of_no_share_is_an_error(share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        part("figures").percentile([1.0], share)
    with pytest.raises(ValueError, match="percentile"):
        part("figures").percentile([], 0.5)


def setting(model: str = "small", streaming: bool = False, connections: int = 2, tokens: int = 100) -> object:
    return part("load").Setting(model, connections, streaming, tokens, 4)


def run(server: str, turn: int, ms: float, asked: object | None = None) -> object:
    return part("figures").Run(server, asked or setting(), turn, [ms / 2] * 4, [ms] * 4, wall_s=ms / 1000, cpu_s=0.004)


def test_what_is_added_is_the_difference_to_the_direct_call_of_the_same_round() -> None:
    direct = [run("direct", turn, ms) for turn, ms in ((1, 10.0), (2, 100.0), (3, 1000.0))]
    gateway = [run("gateway", turn, ms) for turn, ms in ((1, 12.0), (2, 104.0), (3, 1003.0))]
    found = part("figures").figures(gateway, direct)
    assert found.added_ms == (3.0, 3.0, 3.0)
    assert found.first_ms == pytest.approx(1.5)
    assert found.rate == pytest.approx(4 / 0.104)
    assert found.cpu_ms == pytest.approx(1.0)


def test_a_table_has_a_row_for_each_server_and_setting_and_the_ratios_to_the_peer() -> None:
    auto = setting("auto")
    runs = [run("direct", 1, 10.0), run("ours", 1, 20.0), run("theirs", 1, 80.0), run("ours", 1, 30.0, auto)]
    lines = list(part("figures").tables(runs, "direct", "ours", ["theirs"]))
    assert "| direct | small | 2 | whole | 100 | 10.0, 10.0, 10.0 |  |  |  |  | 400 | 1.00 |" in lines
    assert "| ours | auto | 2 | whole | 100 | 30.0, 30.0, 30.0 | +20.0 | +20.0 | +20.0 | +10.0 | 133 | 1.00 |" in lines
    assert lines[-1] == "| theirs | small | 2 | whole | 100 | 4.0 | 100% |"


@pytest.mark.parametrize("streaming", [False, True])
def test_the_load_measures_every_request_over_no_more_connections_than_it_should(streaming: bool) -> None:
    with FakeProvider() as provider:
        found = asyncio.run(part("load").burst(provider.base_url, setting(streaming=streaming)))
        asked = [request.body["messages"][-1]["content"] for request in provider.requests]
    assert len(found.total_s) == len(found.first_s) == len(set(asked)) == 4
    assert all(0 < first <= total for first, total in zip(found.first_s, found.total_s, strict=True))
    assert streaming == all(first < total for first, total in zip(found.first_s, found.total_s, strict=True))


def test_an_answer_that_is_an_error_ends_the_measurement() -> None:
    with FakeProvider() as provider:
        provider.always(fail(500))
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(part("load").burst(provider.base_url, setting()))
    assert caught.group_contains(part("load").AnswerError, match="500")


def test_a_prompt_has_about_as_many_tokens_as_asked_for() -> None:
    load = part("load")
    assert len(load.body_of(setting(tokens=1000), 1).split()) == pytest.approx(1000 * 18 / 20, rel=0.1)


def test_the_slope_of_a_soak_is_that_of_its_second_half() -> None:
    endurance = part("endurance")
    requests = [100 * number for number in range(21)]
    rss = [100.0 + min(number, 10) + 0.002 * max(0, number - 10) for number in range(21)]
    found = endurance.Soak(requests, rss, wall_s=10.0)
    assert found.slope_kb == pytest.approx(20.0)  # 2 kB for each 100 requests
    assert list(found.lines())[-1] == "Growth over the second half: +20.0 kB for 1,000 requests, at 200 requests/s."


class Sampled:
    """The double as a server whose memory is known."""

    def __init__(self, url: str) -> None:
        self.url, self.key, self._samples = url, "any", 0
        self.headers = {"x-more": "1"}

    def rss_mb(self) -> float:
        self._samples += 1
        return 100.0 + self._samples


@pytest.mark.slow
def test_a_soak_samples_after_every_twentieth_of_the_requests() -> None:
    with FakeProvider() as provider:
        asked = part("load").Setting("small", 2, False, 20, 43)
        found = asyncio.run(part("endurance").soak(Sampled(provider.base_url), asked))
        assert len(provider.requests) == 43
    assert list(found.requests) == [*range(0, 43, 2), 43]
    assert len(found.rss_mb) == len(found.requests)


@pytest.mark.slow
def test_open_streams_are_counted_whole_or_with_their_error() -> None:
    with FakeProvider() as provider:
        cut = {"1": reset_after(2), "2": error_event(after=1)}
        provider.always(lambda record: cut.get(record.body["messages"][-1]["content"].split("(Case ")[1][0]))
        server = Sampled(provider.base_url)
        found = asyncio.run(part("endurance").open_streams(server, server, 5, seconds=0.01))
    assert len(found.ended_s) == 3
    assert len(found.failed) == 2
    assert list(found.lines())[2].startswith("| 5 | 3 | 0 | 101 |")


def test_a_hard_limit_of_open_files_that_is_too_low_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    endurance = part("endurance")
    monkeypatch.setattr(endurance.resource, "getrlimit", lambda _: (256, 1024))
    with pytest.raises(SystemExit, match="1000 streams need 2200 open files, and the hard limit is 1024"):
        endurance.raise_file_limit(1000)


WRK = """Running 5s test @ http://127.0.0.1:1/v1/chat/completions
  1 threads and 16 connections
  Latency Distribution
     50%   12.50ms
     75%   20.00ms
     90%   30.00ms
     99%    1.20s\x20
  900 requests in 5.00s, 1.00MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 4
Requests/sec:    180.25
Transfer/sec:      0.20MB
"""


def test_the_figures_of_the_second_witness_are_read_with_its_failures() -> None:
    witness = part("witness")
    found = witness.read_output("ours", setting(), WRK)
    assert (found.rate, found.p50_ms, found.p99_ms, found.failed) == (180.25, 12.5, 1200.0, 7)
    assert list(witness.cells(found)) == ["ours", "small", 2, "180", "12.5", "1200.0", 7]
    with pytest.raises(SystemExit, match="no figures"):
        witness.read_output("ours", setting(), "unable to connect")


def test_without_a_second_witness_there_are_no_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    assert part("witness").witness("ours", Sampled("http://127.0.0.1:1/v1"), setting(), 1, tmp_path, 0) is None


@pytest.mark.slow
def test_the_second_witness_sends_bodies_that_a_provider_takes(tmp_path: Path) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not on the path")
    with FakeProvider() as provider:
        found = part("witness").witness("ours", Sampled(provider.base_url), setting(), 1, tmp_path, 3)
        asked = [request.body["messages"][-1]["content"] for request in provider.requests]
    assert found.failed == 0
    assert len(asked) == len(set(asked)) > 0
