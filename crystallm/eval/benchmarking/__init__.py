"""Benchmarks run and scored: reports, comparisons of them, the leaderboard."""
