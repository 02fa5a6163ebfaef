"""A program that uses a router, forks, and uses it in parent and children: run by test_forks in a process of its own.

Prints a line of JSON for each process, and one for each child that failed or had to be killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from contextlib import aclosing
from typing import Any

from semroute.config import Config
from semroute.router import Router

CHILDREN = 2
PATIENCE_S = 20.0
QUERIES = [f"how do I boil {number} eggs" for number in range(60)]
LARGE = 1000


def work(router: Router, name: str) -> dict[str, Any]:
    """Use every synchronous door, and the asynchronous ones on a loop of one's own."""
    one = router.route(f"{name} fix this bug in my python code")
    many = router.route_many([f"{name} {query}" for query in QUERIES])
    said = router.complete(f"{name} recipe for soup").text

    async def pieces() -> str:
        async with aclosing(router.astream(f"{name} recipe for bread")) as events:
            return "".join([getattr(event, "text", "") async for event in events][:-1])

    from semroute import _sync

    dispatcher = router.dispatcher
    _sync.run(dispatcher.close())
    return {
        "name": name,
        "route": one.category,
        "many": len([decision for decision in many if decision.category == "cooking"]),
        "complete": said,
        "stream": asyncio.run(pieces()),
        "draw": dispatcher._random.random(),
        "replica": getattr(dispatcher.gates, "replica", name),
        # A database that another process is writing is one failure, and the end of a flush.
        "logged": any(router._log.flush(10.0) for _ in range(5)),  # type: ignore[union-attr]
    }


def threads_at_work(router: Router, stop: threading.Event) -> list[threading.Thread]:
    """Threads that hold locks and pools most of the time."""

    def decide() -> None:
        while not stop.is_set():
            router.route_many(QUERIES)

    def ask() -> None:
        while not stop.is_set():
            router.complete("recipe for soup")

    threads = [threading.Thread(target=one, daemon=True) for one in (decide, ask)]
    for thread in threads:
        thread.start()
    return threads


def fork(router: Router, name: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.write(1, (json.dumps(work(router, name)) + "\n").encode())
        status = 0
    finally:
        if name.endswith("0"):
            os._exit(status)  # as multiprocessing ends
        sys.exit(status)  # as gunicorn ends


def wait_for(pids: list[int]) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    for pid in pids:
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > ends_at:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        if ended[1]:
            os.write(1, (json.dumps({"name": f"ended with {ended[1]}"}) + "\n").encode())


def main(index: str, config: str, is_busy: bool, is_large: bool) -> None:
    if is_large:
        import semroute.encoders.onnx

        semroute.encoders.onnx.LARGE = LARGE
    router = Router.load(index, config=Config.model_validate_json(config), log=True)
    before = work(router, "before")
    stop = threading.Event()
    threads = threads_at_work(router, stop) if is_busy else []
    pids = [fork(router, f"child{number}") for number in range(CHILDREN)]
    wait_for(pids)
    stop.set()
    for thread in threads:
        thread.join(60)
    after = work(router, "after")
    for line in (before, after):
        os.write(1, (json.dumps(line) + "\n").encode())
    router.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "busy" in sys.argv, "large" in sys.argv)
