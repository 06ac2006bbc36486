"""From what was read of the cluster to lines for a person or a document for a program: all of it pure."""
