"""What stood in the way of the last writes for one ModelDeployment, kept until a whole turn went through."""

from __future__ import annotations

from dataclasses import dataclass

from modelrollout.ports import DeniedError, ForeignObjectError, PortError, RejectedError


@dataclass(frozen=True)
class Obstacles:
    """``foreign``: an object of our name that is not ours; ``denied``: a permission, or an object refused.

    ``uncopied`` keeps copies from the observer only: users and rollouts do not wait for that.
    """

    foreign: str | None = None
    denied: str | None = None
    uncopied: str | None = None

    @classmethod
    def of(cls, error: PortError) -> Obstacles | None:
        """The obstacle that a person must remove; None for errors that pass by themselves."""
        if isinstance(error, ForeignObjectError):
            return cls(foreign=str(error))
        if isinstance(error, DeniedError | RejectedError):
            return cls(denied=str(error))
        return None

    @classmethod
    def of_copies(cls, error: PortError) -> Obstacles:
        """The obstacle of copies alone."""
        what = "delete it or rename it" if isinstance(error, ForeignObjectError) else "nothing is copied until it may"
        return cls(uncopied=f"{error}: {what}")
