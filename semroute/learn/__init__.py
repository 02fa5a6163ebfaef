"""Training: from labelled examples and outcomes to an artifact.

Serving imports nothing of this package.
"""
