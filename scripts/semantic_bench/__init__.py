"""The parts of ``scripts/bench_semantic.py``."""
