"""Energies of crystals: potentials, relaxation that keeps the space group, races, hulls."""
