"""The draws of one prompt: what is settled before, what they follow, how they are kept unlike each other."""
