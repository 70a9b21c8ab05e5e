"""Make a finished model smaller or faster."""
