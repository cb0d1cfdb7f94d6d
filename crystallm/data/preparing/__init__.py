"""From sources to a folder of prepared text, with every crystal accounted for."""
