"""Layouts, blocks and descriptions side by side (docs/experiments/training.md)."""
