"""The data plane: one request, from the socket to Triton and back.

Words, each for one idea (DESIGN of the project, section 8):

downstream   the client's side of a call; **upstream** is Triton's
tenant       a customer; it has **keys**, a **plan**, and calls as a **principal** (who a credential stands for)
credential   a **key** (`gw_...`) or a **token** (JWT); for who shows neither a client **certificate**, by a name in it that is a tenant's
issuer       an identity provider that somebody **trusts**: its tokens for one audience are its **owner's**; it publishes a **key set**
terms        what a key is bound to: networks, hours, **limits** of its own; **conditions** are what is judged of them at each call
restriction  what a tenant narrows all its credentials to: regions, models, networks
operator     who runs the gateway; **break-glass** is an operators' key for emergencies, each use of which says why and is told
plan         the limits a tenant bought; a **quota** is one of them, **usage** is what was used of it
call         one request for a model; its **reservation** is what it holds of the quotas; it ends in a **reply**
model        what is inferred with; it has **versions** and takes and gives **tensors** of a **datatype**
fleet        a kind of Triton server; a **replica** is one running server; **live** means it answers, **ready** that it can infer
throttler    holds calls while no replica can take them
intent       the audit record written before a reply leaves; its **outcome** follows when the call is settled
segment      an append-only piece of the audit log that one process writes; an **entry** is kept for ever, a **body** may be shredded
"""

__version__ = "0.1.0"
