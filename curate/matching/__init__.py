"""How texts of evaluation items are found in documents: words, features, search and evidence; for contamination.py."""
