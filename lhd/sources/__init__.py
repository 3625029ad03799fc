"""Sources: finding the kinds that are installed, checking their tables, and running them under supervision."""
