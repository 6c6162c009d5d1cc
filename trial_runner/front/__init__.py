"""The Pareto front of a study: export, measurement, table and report."""
