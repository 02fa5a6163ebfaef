"""Tune a routing policy on outcomes: the cheapest that keeps a promise."""
