"""Ray Tune and Optuna: proposing points, running trials, stopping and counting them."""
