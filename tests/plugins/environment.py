"""A process whose import path has installed packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import semroute


@dataclass(frozen=True)
class Environment:
    """A folder to work in, and an import path with installed packages."""

    folder: Path
    installed: Path | None

    def python(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run Python as a program in this environment does."""
        paths = [str(Path(semroute.__file__).parents[1]), *([] if self.installed is None else [str(self.installed)])]
        return subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NO_PROXY": "127.0.0.1", "COLUMNS": "400", **env},
            capture_output=True,
            text=True,
            check=False,
        )

    def semroute(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command line; it never ends in a traceback."""
        done = self.python("-m", "semroute", *arguments, **env)
        assert "Traceback" not in done.stderr
        return done

    def told(self, program: str, **env: str) -> Any:
        """The JSON that a program prints in its last line."""
        done = self.python("-c", dedent(program), **env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def write(self, text: str) -> None:
        """Write ``semroute.yaml``."""
        (self.folder / "semroute.yaml").write_text(dedent(text), encoding="utf-8")

    def problems(self) -> list[Mapping[str, Any]]:
        """What ``semroute config check`` finds wrong: errors alone."""
        found = json.loads(self.semroute("config", "check", "--json").stdout)["problems"]
        return [problem for problem in found if problem["severity"] == "error"]
