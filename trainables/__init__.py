"""The physics: models, their data, losses, scores and figures. Needs no search."""

from trainables.runtime import telemetry

telemetry.turn_off()
