"""Admission control of several replicas, shared through Redis."""

from __future__ import annotations
