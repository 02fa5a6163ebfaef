"""Where a cascade pays and where it does not, from logged outcomes."""
