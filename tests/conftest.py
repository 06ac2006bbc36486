"""For all tiers: a property is judged by what it says, not by how long a busy machine took for one example."""

from hypothesis import settings

# Of the profile in force, which is Hypothesis' own one where it sees that it runs in CI.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")
