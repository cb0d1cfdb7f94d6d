"""What may be written next: the automaton of a layout, and the limits that a prompt sets."""
