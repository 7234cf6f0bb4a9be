"""Who speaks: sockets in, calls out. Each protocol decodes into an InferenceCall and renders what the pipeline answers."""
