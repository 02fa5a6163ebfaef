"""The one place that knows all the stages: find the artifact, embed, decide, dispatch."""

from semroute.router.router import Router, route

__all__ = ["Router", "route"]
