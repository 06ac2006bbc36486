"""kopf as transport: watch events in, cache and wakes out. Nothing here decides or writes."""
