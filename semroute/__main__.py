"""``python -m semroute``: the command, for where scripts are not on the path."""

from __future__ import annotations

import sys

from semroute.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
