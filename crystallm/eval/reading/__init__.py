"""Whether reading and judging can be trusted: other readers, round trips, fast checks against reference checks."""
