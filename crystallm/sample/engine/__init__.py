"""Many constrained texts in one batch; the engine handles token ids and logits, and knows no chemistry."""
