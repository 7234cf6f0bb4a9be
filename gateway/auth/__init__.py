"""Who is calling. A failure here closes the door: what cannot be checked is not served."""
