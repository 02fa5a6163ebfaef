"""How good routing is: metrics as pure functions, and what ``semroute evaluate`` and the sweep of thresholds show."""
