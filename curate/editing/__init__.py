"""What the modules that edit text (edits.py, refinedweb.py) share."""
