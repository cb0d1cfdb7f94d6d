"""What is made of the draws of a prompt: known crystals beside them, energies, one of equal ones, chances."""
