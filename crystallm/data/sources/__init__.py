"""Where structures come from: folders, archives, tables, OPTIMADE."""
