"""What a run leaves behind to be resumed from."""
