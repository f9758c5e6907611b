"""What one search is: flags, settings, the settled specification, the search space, the code that ran it."""
