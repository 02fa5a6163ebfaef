"""Command line: parse arguments, call the library, render results."""
