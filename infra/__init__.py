"""What runs beside the gateway: the models that Triton serves, and the programs that made them."""
