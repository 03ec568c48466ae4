"""Models that give a document a number; each module is one family of methods."""
