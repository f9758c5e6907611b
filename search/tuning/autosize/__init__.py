"""The share of a node that one trial needs, found out with a short benchmark of one trial."""
