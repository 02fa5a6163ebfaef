"""Parts of ``scripts/bench_texts.py``."""
