"""Training: from a prepared folder of crystal text to a checkpoint, resumable at any moment."""
