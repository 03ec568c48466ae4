"""The trial's workshop: arms, cutting, instruments, metrics, verdict and lines; only curate.trial enters."""
