"""Parts of ``scripts/conformance.py``: the gateway to check, its rows, its clients."""
