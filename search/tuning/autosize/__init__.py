"""What share of a node one trial needs, found out by running one for a moment."""
