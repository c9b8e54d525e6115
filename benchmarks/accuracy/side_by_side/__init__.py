"""Parts of the comparison that run.py puts together."""
