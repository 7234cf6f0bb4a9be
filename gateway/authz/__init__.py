"""May they? Answers with the ids of the policies that decided. The policies themselves are in `policies/`."""
