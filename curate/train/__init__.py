"""The small trainer, its instruments and the statistics of a trial; nothing of ours above it."""
