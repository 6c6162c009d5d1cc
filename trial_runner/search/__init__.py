"""The search: driver, budget, samplers, initial design, early stopping and final training."""
