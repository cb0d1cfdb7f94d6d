"""Benchmarks, their targets, and the crystals of anyone that are scored on them."""
