"""How near-duplicates are found, part by part; ``curate.minhash`` is the door."""
