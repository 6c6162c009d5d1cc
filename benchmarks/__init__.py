"""Benchmarks. Each module prints one table and writes its rows as JSON: python -m benchmarks.NAME --json OUT."""
