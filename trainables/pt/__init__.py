"""Transverse momentum of an electron in sPHENIX from silicon hits and calorimeter: three MLPs, one after another."""
