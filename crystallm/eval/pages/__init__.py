"""Figures, pictures of crystals, and pages for reports."""
