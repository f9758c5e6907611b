"""The checks of search.doctor: each module one question, answered by findings."""
