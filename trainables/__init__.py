"""The physics: models, their data, losses, scores and figures. Needs no search."""
