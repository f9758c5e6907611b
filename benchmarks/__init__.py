"""One script per question; each prints a table. Results stand beside them, dated."""
