"""Bayesian optimisation with exact use of the costs that are known before training; see docs/search.md."""

from trial_runner.search.known_cost.costs import KnownCosts as KnownCosts
from trial_runner.search.known_cost.earlier import EarlierTrials as EarlierTrials
from trial_runner.search.known_cost.sampler import KnownCostSampler as KnownCostSampler
