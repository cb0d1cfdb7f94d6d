"""What a checkpoint has seen: a list of the crystals that its model and library were made of lies in its folder."""

from crystallm.data.seen.listing import SEEN_FILE, Seen, aliases
from crystallm.data.seen.writing import seen_in, write_seen

__all__ = ["SEEN_FILE", "Seen", "aliases", "seen_in", "write_seen"]
