"""What do listeners prove themselves with, and whose certificates do they take? PEM files, judged as a whole."""
