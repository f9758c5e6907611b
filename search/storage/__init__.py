"""What a search keeps on disk or in an object store."""
