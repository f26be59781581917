"""The cluster a user holds: the only importer of the engine's cluster interface."""
