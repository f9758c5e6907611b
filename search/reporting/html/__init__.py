"""HTML reports of one or more searches, each a single file that needs no network."""
