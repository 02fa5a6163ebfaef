"""Parts of ``scripts/bench_floor.py``."""
