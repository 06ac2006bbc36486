"""The one error the command line shows to people: a sentence that says what to do."""


class ClusterError(Exception):
    """Something a person must know or do; printed without a traceback."""
