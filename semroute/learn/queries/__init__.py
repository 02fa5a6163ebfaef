"""Training of the classifier of queries, from outcomes."""
