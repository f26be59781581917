"""How processes that start anywhere find each other."""
