"""A golden set: which answers a person should judge, what a model says of them, and how far the two agree."""
