"""How much, now. What a call takes is held by its reservation until the call is settled."""
