"""Metrics of quality against cost, as pure functions over arrays; each names its formula and its source.

All take arrays whose last axis is the curve, so that the resamples of a bootstrap are one call.
"""
