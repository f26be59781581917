"""Real analyses that show a cluster at work; they know a client, not how its cluster was made."""
