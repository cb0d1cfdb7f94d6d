"""Free samples: valid, unique, novel, distributed like real crystals, stable."""
