"""The parts of ``scripts/bench_faults.py``."""
