"""Reference profiles: the shares of the training data's values in bins; made, read and checked here, numpy only."""
