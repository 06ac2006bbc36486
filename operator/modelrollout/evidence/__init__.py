"""Evidence: which numbers to ask of Prometheus for a guard, and what the answers say. Pure: no clock, no I/O."""
