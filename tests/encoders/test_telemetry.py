"""ONNX Runtime starts no telemetry: no socket, no thread of its own, no event database, no device id.

The kernel watches a child process: its filter of system calls ends the child as soon as any thread, native code
included, asks for a socket of the Internet, which look-ups of names need too. ONNX Runtime looks up its vendor's host
some 10 s after its start, and a child may end before; so the child also counts the threads that Python has not
started, for they alone could do that later.
"""

from __future__ import annotations

import ast
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
SOCKET = {"x86_64": 41, "aarch64": 198}
"""Number of the system call ``socket`` by machine."""

WATCHED = """
import ctypes, os, struct, sys, threading, time

def watch(number):
    # https://docs.kernel.org/userspace-api/seccomp_filter.html; no privilege is needed to give up rights.
    steps = (
        (0x20, 0, 0, 0),  # load the number of the system call
        (0x15, 0, 4, number),  # other than socket: pass
        (0x20, 0, 0, 16),  # load its first argument, the family
        (0x15, 1, 0, 2),  # AF_INET: end
        (0x15, 0, 1, 10),  # other than AF_INET6: pass
        (0x06, 0, 0, 0x80000000),  # end the process
        (0x06, 0, 0, 0x7FFF0000),  # pass
    )
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]
    whole = Filter(len(steps), ctypes.addressof(program))
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(38, 1, 0, 0, 0) or system.prctl(22, 2, ctypes.byref(whole), 0, 0):
        print("unwatched", os.strerror(ctypes.get_errno()))
        sys.exit()

watch(int(sys.argv[1]))
%s

def native():
    return {int(name) for name in os.listdir("/proc/self/task")} - {one.native_id for one in threading.enumerate()}

end = time.monotonic() + 10
while native() and time.monotonic() < end:  # a thread of Python's that has just ended is the system's for a moment
    time.sleep(0.01)
print("native", len(native()))
"""

BUILD_AND_ROUTE = """
from semroute.cli.main import main
assert main(["build-index", "categories", "--no-head", "--json"]) == 0
assert main(["route", "boil an egg", "--json"]) == 0
"""
EXPORT = """
from pathlib import Path
import model2vec.distill
from semroute.encoders.export import export_onnx
export_onnx(Path(sys.argv[2]), Path("onnx")).load().encode(["boil an egg"])
"""
AS_IT_COMES = "import onnxruntime"
LOOK_UP = """
look_up = lambda: ctypes.CDLL(None).getaddrinfo(b"semroute.invalid", b"80", None, ctypes.byref(ctypes.c_void_p()))
thread = threading.Thread(target=look_up)
thread.start()
thread.join()
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in SOCKET, reason="the filter of system calls is Linux's"
)


@dataclass(frozen=True)
class Seen:
    """What was seen of a child: how it ended, its native threads, and the files it left outside of its own folders."""

    code: int
    native: int | None
    foreign: list[str]
    err: str


Watch = Callable[..., Seen]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """Run a program under the filter, with every folder of the user in an empty one, ``work`` among them."""
    work = tmp_path / "work"
    (work / "categories").mkdir(parents=True)
    (work / "categories" / "cooking.txt").write_text("boil an egg\nbake some bread\nseason the soup\n")
    (work / "categories" / "code.txt").write_text("fix my loop\nwrite a unit test\nmerge a branch\n")
    own = {"HOME": "home", "XDG_CACHE_HOME": "cache", "XDG_DATA_HOME": "data", "XDG_STATE_HOME": "state"}
    # ONNX Runtime as it comes, whatever the tests run under; and libraries that compute in the calling thread.
    # Nothing that keeps the telemetry quiet of itself, such as CI=true, may reach the child: it would prove nothing.
    kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {name: str(tmp_path / folder) for name, folder in own.items()}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}

    def run(program: str, *arguments: str) -> Seen:
        command = [sys.executable, "-W", "ignore", "-c", WATCHED % program, str(SOCKET[platform.machine()]), *arguments]
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        last = (done.stdout.splitlines() or [""])[-1]
        if last.startswith("unwatched"):
            pytest.skip(f"the kernel gives no filter of system calls: {last.removeprefix('unwatched ')}")
        native = int(last.removeprefix("native ")) if last.startswith("native ") else None
        files = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
        foreign = [name for name in files if not name.startswith(("work/", "model/", "plain/", "cache/semroute/"))]
        return Seen(done.returncode, native, foreign, done.stderr)

    return run


@pytest.mark.slow
def test_building_and_routing_open_no_socket_start_no_foreign_thread_and_write_no_foreign_file(watch: Watch) -> None:
    seen = watch(BUILD_AND_ROUTE)
    assert (seen.code, seen.native, seen.foreign) == (0, 0, []), seen.err


@pytest.mark.slow
def test_exporting_with_torch_and_model2vec_opens_no_socket_and_writes_no_foreign_file(
    watch: Watch, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    seen = watch(EXPORT, str(tiny_model(tmp_path)))
    assert (seen.code, seen.foreign) == (0, []), seen.err


@pytest.mark.slow
@pytest.mark.skipif(Version(version("onnxruntime")) < Version("1.32"), reason="has no telemetry yet")
def test_the_watch_sees_the_telemetry_of_onnx_runtime_as_it_comes(watch: Watch) -> None:
    seen = watch(AS_IT_COMES)
    assert seen.code in (0, -signal.SIGSYS)
    assert seen.native is None or seen.native > 0
    assert any("onnxruntime" in name for name in seen.foreign)


def test_the_watch_ends_a_native_look_up_in_another_thread(watch: Watch) -> None:
    assert watch(LOOK_UP).code == -signal.SIGSYS


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["semroute", "scripts", "tests"])
def test_onnx_runtime_is_imported_in_one_place_only(folder: str) -> None:
    found = []
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "onnxruntime" in text else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(name.split(".")[0] == "onnxruntime" for name in names):
                found.append(str(path.relative_to(ROOT)))
    assert found == (["semroute/encoders/onnx.py"] if folder == "semroute" else [])
