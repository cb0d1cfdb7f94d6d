"""Layouts, blocks and descriptions side by side (docs/train.md)."""
