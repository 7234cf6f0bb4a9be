"""What is stored is sealed under a key of its tenant: formats, the keys they take, and who wraps those. README.md has the whole."""
