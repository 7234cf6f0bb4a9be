"""What can be wrong with certificates. Apart, so that who tells of it need not load the ciphers. Pure."""


class TlsRefused(Exception):
    """What the files hold is not shown; the text names the file and says why."""
