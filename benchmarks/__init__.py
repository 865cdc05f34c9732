"""Measurements: one script per claim, each prints a table and can write JSON."""
