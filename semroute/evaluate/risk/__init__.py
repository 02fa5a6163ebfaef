"""Promises that hold with a stated confidence: tests of a mean, and a sequence of them."""
