"""Parts of ``scripts/conformance.py``: gateway, rows, clients."""
