"""The commented ``semroute.yaml`` that ``semroute init`` writes."""

from __future__ import annotations

from importlib.resources import files


def template() -> str:
    """The text of the template; a valid configuration whose deployments read ``OPENAI_API_KEY``."""
    return files("semroute.config").joinpath("template.yaml").read_text(encoding="utf-8")
