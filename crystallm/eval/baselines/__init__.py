"""Samples that no model made."""
