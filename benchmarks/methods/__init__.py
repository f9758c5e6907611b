"""Compare methods of search on tabulated learning curves: see README.md beside this file."""
