"""Energies above a convex hull, and the table of references that makes it."""
