"""What people see of a search: tables, live view, figures, pages, notes in MLflow."""
