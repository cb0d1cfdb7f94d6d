"""Checks of one crystal: the reference path, the fast path beside it, and what both look at."""
