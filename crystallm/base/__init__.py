"""What every room stands on: errors, recipes, provenance, files, processes. No chemistry."""
