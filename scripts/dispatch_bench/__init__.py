"""The parts of ``scripts/bench_dispatch.py``."""
