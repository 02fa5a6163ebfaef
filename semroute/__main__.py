"""Entry point of ``python -m semroute``."""

from __future__ import annotations

import sys

from semroute.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
