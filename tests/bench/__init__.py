"""What does the gateway cost? One Triton behind five hops, measured in turn by wrk: `python -m tests.bench --help`.

hops         the ways to the same Triton, as processes of this host
loads        the requests, and one run of wrk
report       from samples to the table of the README; pure
bars         what the numbers must be; pure
passthrough  one of the hops: all that a Python proxy must do, and nothing else
authorize    what nginx asks in another: whose key this is

What do many tenants and keys cost? `python -m tests.bench.many --help`.

many         a gateway on a state of them, measured against its bars
many_state   that state
"""
