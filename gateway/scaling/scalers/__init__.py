"""Where servers run: the adapters of the Scaler port."""
