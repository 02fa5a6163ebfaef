"""Parts of ``scripts/bench_faults.py``."""
