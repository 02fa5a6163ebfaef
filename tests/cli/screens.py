"""Commands at a real terminal of so many columns: one process runs them one after the other."""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from cli.runner import parts_sent

_BETWEEN = "\x1e"
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_RUN = f"""
import json, sys
from semroute.cli.main import main
for arguments in json.loads(sys.argv[1]):
    try:
        code = main(arguments)
    except SystemExit as error:
        code = error.code
    sys.stdout.flush()
    sys.stderr.flush()
    sys.stdout.write(f"{{code}}{_BETWEEN}")
    sys.stdout.flush()
"""


def screens(commands: Sequence[Sequence[str]], columns: int, folder: Path, **more: str) -> list[tuple[int, list[str]]]:
    """Return what each command shows at a terminal, and its exit code; progress is no part of it."""
    near, far = os.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    env |= {"TERM": "xterm-256color", "PYTHONUTF8": "1", **more}
    running = subprocess.Popen(
        [sys.executable, "-c", _RUN, json.dumps(commands)],
        stdin=subprocess.DEVNULL, stdout=far, stderr=far, env=env, cwd=folder, start_new_session=True,
    )  # fmt: skip
    os.close(far)
    sent = b"".join(parts_sent(near, 600))
    os.close(near)
    running.kill()
    running.wait(60)
    found = []
    for shown in _STYLE.sub("", sent.decode("utf-8")).split(_BETWEEN)[:-1]:
        *lines, code = shown.split("\r\n")
        # Only the whole of a command stands before its code: text without an end of line is none of its tables.
        found.append((int(code), [line.rsplit("\r", 1)[-1] for line in lines]))
    assert len(found) == len(commands), sent.decode("utf-8")[-2000:]
    return found


def cells(line: str) -> int:
    """Return the columns that a line takes, as terminals count them (UAX 11, without what combines)."""
    wide = [character for character in line if unicodedata.east_asian_width(character) in "WF"]
    none = [character for character in line if unicodedata.combining(character) or character in "\u200d\ufe0f"]
    return len(line) + len(wide) - len(none)
