"""What do listeners prove themselves with, and whose certificates do they take? PEM files, judged as a whole."""


class TlsRefused(Exception):
    """What the files hold is not shown; the text names the file and says why."""
