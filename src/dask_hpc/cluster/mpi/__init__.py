"""Clusters whose processes an MPI launcher has started: scheduler, workers and client are ranks."""
