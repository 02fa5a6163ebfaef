"""The pages of the project: README.md of the root and of every folder that has one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "semroute"
README = ROOT / "README.md"
WINGS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
PAGES = [
    README,
    *(ROOT / folder / "README.md" for folder in ("scripts", "semroute", "tests")),
    *(wing / "README.md" for wing in WINGS),
]


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(language: str) -> dict[str, str]:
    """Return the fenced blocks of a language on all pages, by page and number from 1."""
    return {
        f"{page.relative_to(ROOT)} {number}": block
        for page in PAGES
        for number, block in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL), start=1
        )
    }
