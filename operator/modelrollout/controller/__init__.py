"""The loop: cache, queue, gather -> decide -> render -> apply -> status -> events, and what is measured meanwhile."""
