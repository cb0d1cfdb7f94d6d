"""Relaxation that keeps the space group."""
