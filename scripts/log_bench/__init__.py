"""Parts of ``scripts/bench_log.py``."""
