"""Upstream: how a call reaches a Triton server, and how we see that the server is there."""
