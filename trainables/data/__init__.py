"""Input files to arrays: ROOT trees, ingest, memory-mapped cache, splits."""
