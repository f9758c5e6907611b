"""From the event log of a search to MLflow."""
