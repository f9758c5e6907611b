"""Searches whose storage is a URL: one driver by a lease, small files mirrored there."""
