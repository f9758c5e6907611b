"""The physics: models, their data, losses, scores and figures. Knows nothing of searches."""
