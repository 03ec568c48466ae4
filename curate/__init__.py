"""Decide which tokens a language model is trained on, and prove the decision."""

__version__ = "0.1.0"
