"""What is searched: the Optuna spaces and the presets of the seed reports. Knows only Optuna."""
