"""Copies: one crystal, slightly distorted and written in a lower space group, beside the same in its own."""
