"""Parts of ``scripts/bench_cascade.py``."""
