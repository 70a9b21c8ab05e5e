"""The commands of `hfscale`, one module each, imported when they are called."""
