"""From zero: which Triton servers run, and how a call gets a place on one of them."""
