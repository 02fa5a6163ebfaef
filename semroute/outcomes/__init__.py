"""Outcomes: what each model's answer to a query was worth and what it cost, from files and from the log."""
