"""Parts of ``scripts/bench_gateway_faults.py``: services, load, and the accounts that must agree."""
