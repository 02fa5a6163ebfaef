"""A whole policy tuned over outcomes: what could be done, and the cheapest of it that keeps a promise."""
