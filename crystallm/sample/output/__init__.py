"""What a run writes and prints: tables, files in several formats."""
