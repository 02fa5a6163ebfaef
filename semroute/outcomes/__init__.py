"""Outcomes: quality and cost of models' answers, from files and the log."""
