"""Energies of crystals: potentials, relaxation, hulls and what they say about a ranking."""
