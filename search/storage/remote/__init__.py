"""Searches whose storage is a URL: one driver at a time by a lease, and a copy of the small files there."""
