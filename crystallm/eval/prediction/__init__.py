"""Structure prediction: samples against the true structures."""
