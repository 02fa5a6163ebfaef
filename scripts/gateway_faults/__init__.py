"""Parts of ``bench_gateway_faults.py``: services, load, accounts."""
