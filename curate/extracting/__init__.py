"""Extraction apart from the pipeline's own process: the two sides of a sandbox. Only ``curate.pages`` enters."""
