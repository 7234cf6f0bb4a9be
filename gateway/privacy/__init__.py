"""What of a request need not be seen: personal data is found, masked before the model and any record, and put back where asked for."""
