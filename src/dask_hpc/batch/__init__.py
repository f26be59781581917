"""The edge to the batch system: the only place where its commands are run."""
