"""The observer: a process beside the serving path that counts copies of requests, compares answers, joins labels."""
