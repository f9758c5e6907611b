"""Fast simulation of the ePIC zero-degree calorimeter: six parameters of a particle to its 20x20 hit map."""
