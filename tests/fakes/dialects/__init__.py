"""One file per batch system: its commands' words around the one core, as recorded."""
