"""Scores on held-out events with intervals, and the figures that compare models."""
