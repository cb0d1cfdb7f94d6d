"""Measuring crystals, ours or a rival's: validity and structure prediction. Never imports torch."""
