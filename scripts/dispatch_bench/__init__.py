"""Parts of ``scripts/bench_dispatch.py``."""
