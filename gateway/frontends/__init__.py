"""Who speaks: sockets in, calls out. Each protocol decodes into an InferenceCall and renders what the pipeline answers."""

import os

# We start processes, and never fork to go on in the copy: grpc, which reads this as it is imported, need not stop its threads for that,
# nor say that it could not.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
