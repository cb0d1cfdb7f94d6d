"""Fine-tuning: own crystals in, a model and a report out."""
