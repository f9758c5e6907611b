"""From the best trial of a search to the model that is used: finalists, holdout, gate, registry."""
