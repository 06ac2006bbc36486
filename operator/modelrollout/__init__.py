"""modelrollout: rolls out machine-learning models on Triton and takes bad ones back."""

__version__ = "0.1.0"
