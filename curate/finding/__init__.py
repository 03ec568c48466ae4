"""Personal data in bytes: addresses and numbers at a place, spans of a column. Used by pii.py alone."""
