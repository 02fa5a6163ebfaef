"""Parts of ``scripts/bench_gateway.py``: load, servers, figures."""
