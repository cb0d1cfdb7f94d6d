"""The texts of a run: read, packed, dealt out in steps."""
