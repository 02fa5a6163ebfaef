"""Router: find the artifact, embed, decide and dispatch."""

from semroute.router.router import Router, route

__all__ = ["Router", "route"]
