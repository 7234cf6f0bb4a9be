"""What was used, by whom? Sums folded from the audit log, each call once whatever crashes; README.md says why that holds."""
