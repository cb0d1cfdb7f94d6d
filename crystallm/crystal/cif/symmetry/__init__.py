"""What a CIF says of its symmetry, and what its cell and content decide of it."""
