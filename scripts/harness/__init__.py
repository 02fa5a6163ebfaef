"""Shared by the benchmarks: processes, options, reports, outcomes."""
