"""What people see of a search: leaderboard, progress, figures, HTML reports, notes in MLflow."""
