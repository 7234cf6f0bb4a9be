"""What an operator sees of a running process: which figures there are, where they are counted, and how they get out.

On the request path figures are plain numbers that are added to (`meter`); nothing is formatted or sent there. They are read as
Prometheus text when somebody scrapes (`prometheus`), and pushed by OTLP where a collector is named (`otlp`). A span exists only for
a sampled call of a process that has a collector (`spans`).
"""
