"""The checks of search.doctor: one module for each question, which it answers with findings."""
