"""The Optuna search spaces, and the presets of the published reports. Nothing but Optuna is used here."""
