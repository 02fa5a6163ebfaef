"""Training and building: from labelled examples to an artifact. Serving imports nothing of this."""
