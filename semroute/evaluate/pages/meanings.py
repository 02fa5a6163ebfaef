"""What the figures of a comparison of policies mean, a line each, with where they come from."""

from __future__ import annotations

MEANINGS = (
    (
        "AIQ",
        "average improvement in quality: the mean height of a policy's curve over costs, from the cheapest model's to "
        "the dearest's; points of the curve may be mixed at random",
        "RouterBench, arXiv:2403.12031",
    ),
    (
        "zero router",
        "the best that mixing the single models at random gives, without a look at the query; a policy that is not "
        "above it is of no use",
        "RouterBench, arXiv:2403.12031",
    ),
    (
        "best single model",
        "the one model that is best on the other folds, chosen anew for each fold, so that it is a choice one could "
        "have made; it may score below the best of the table of models, which is known only afterwards",
        "",
    ),
    (
        "PerfGain",
        "the quality of a policy's best point relative to the best single model's, less 1",
        "LLMRouterBench, arXiv:2601.07206",
    ),
    ("by quality alone", "the same for the end of the curve at which cost does not count: no point is chosen", ""),
    (
        "CostSave",
        "the share of the best single model's cost that the cheapest point saves that is as good as it",
        "LLMRouterBench, arXiv:2601.07206",
    ),
    (
        "ParetoDist",
        "the mean distance of a policy's points from the frontier of all that are compared, both axes scaled to 0 to "
        "1; 0 is on it",
        "LLMRouterBench, arXiv:2601.07206",
    ),
    (
        "arena",
        "quality and cheapness (on a logarithmic scale) in one number, 0 to 1; that of the policy's best point",
        "RouterArena, arXiv:2510.00202",
    ),
    (
        "APGR",
        "average performance gap recovered, of two models: 0 is as good as the weaker one, 1 as the stronger, averaged "
        "over shares of calls of the stronger; random choice has 0.5",
        "RouteLLM, arXiv:2406.18665",
    ),
    (
        "CPT(50%)",
        "call-performance threshold: the smallest share of calls of the stronger model that recovers half of the gap",
        "RouteLLM, arXiv:2406.18665",
    ),
    (
        "deferral area",
        "the area under the curve of quality over the share of calls of the stronger model",
        "Gupta et al., arXiv:2404.10136",
    ),
    (
        "AUROC",
        "how often a prediction ranks a good answer above a bad one; 0.5 is chance",
        "Hanley and McNeil, Radiology 143, 1982",
    ),
    (
        "calibration error (ECE)",
        "the mean gap between predicted and true quality, over bins of predictions; 0 is best",
        "Guo et al., arXiv:1706.04599",
    ),
    ("-", "not defined here, such as a saving where no point is as good as the best single model", ""),
)
"""Name, meaning and source."""
