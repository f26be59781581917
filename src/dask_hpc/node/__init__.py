"""What runs inside a job: one supervisor per node, which forks the workers."""
