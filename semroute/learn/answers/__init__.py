"""Training of the classifier that checks answers."""
