"""Formulas: what people type, elements and their order, what is no formula of an ordered crystal."""
