"""Programs that make what `infra/models` and `infra/examples` hold."""
