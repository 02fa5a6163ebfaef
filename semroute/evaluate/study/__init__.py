"""A comparison of policies over outcomes: what ``semroute evaluate-policy`` shows."""
