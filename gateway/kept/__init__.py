"""What is kept of requests and replies, sealed: replies for requests that are repeated, and captured payloads."""
