"""What is minimised, and how: losses, rates, optimisers, averages."""
