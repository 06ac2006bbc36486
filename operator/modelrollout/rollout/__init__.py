"""The decision: what is observed, what is planned, and the pure step between them."""
