"""One search, or several, as a page for a browser: it needs no network and runs nothing but its own code."""
