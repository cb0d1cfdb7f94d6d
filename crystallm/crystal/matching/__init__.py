"""Whether two crystals are the same: the tolerances, the matcher, and its faster twin."""
