"""Migrations of the outcome log; a released one never changes."""
