"""Potentials: energies, forces and stress of crystals."""
