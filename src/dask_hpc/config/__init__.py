"""What the user configured: a common section, one per batch system, one per site.

Read by ``cli`` and ``cluster``; everything below receives values.
"""
