"""One search from its specification to its result."""
