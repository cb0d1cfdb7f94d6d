"""Layouts, blocks and descriptions side by side (docs/experiments.md)."""
