"""Observe, reconcile, apply: what keeps the jobs of a cluster as many as wanted."""
