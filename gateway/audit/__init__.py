"""Audit: can it be proven what happened? Records chained in segments, durable before a reply starts."""
