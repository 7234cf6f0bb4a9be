"""The control API: who may ask for which change over HTTP, and what are they told?

One table, `routes.py`, has every operation; routing, the OpenAPI document, the README's table and the tests are made from it.
"""
