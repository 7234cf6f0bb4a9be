"""What does the gateway cost? One Triton behind four hops, measured in turn by wrk: `python -m tests.bench --help`.

hops         the four ways to the same Triton, as processes of this host
loads        the requests, and one run of wrk
report       from samples to the table of the README; pure
passthrough  the third hop: all that a Python proxy must do, and nothing else
"""
