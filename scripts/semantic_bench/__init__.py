"""Parts of ``scripts/bench_semantic.py``."""
