"""What is looked at on one machine: the login node, and each node of a trial job.

The standard library alone, and no import of the rest of this package but where failing to is an
answer: these files travel to the node in one archive, and run there under whatever Python a job
finds, with or without dask.
"""
