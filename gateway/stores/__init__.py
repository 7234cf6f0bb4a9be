"""Adapters of the stores, and nothing else: what a port promises is written beside the port."""
