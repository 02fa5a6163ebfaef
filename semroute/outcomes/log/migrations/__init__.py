"""Steps from one form of the database to the next; one that was released never changes."""
