"""What the user configured: a common section of the dask configuration, and one per batch system.

Read by ``cli`` and ``cluster``; everything below receives values.
"""
