"""What the benchmark of the log is made of."""
