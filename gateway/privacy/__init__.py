"""What need not be seen: personal data is found, masked before the model and any record, and put back where that was asked for."""
