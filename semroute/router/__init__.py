"""Router: find the artifact, embed, decide and dispatch."""

from semroute.router.default import route
from semroute.router.router import Router

__all__ = ["Router", "route"]
