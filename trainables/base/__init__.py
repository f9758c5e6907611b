"""The contract of a training run, its Ray Tune adapter, objectives and errors."""
