"""The forward pass for decoding, on CPUs and GPUs."""
