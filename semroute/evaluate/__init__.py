"""Evaluation of routing: metrics, replay, off-policy estimates, reports."""
