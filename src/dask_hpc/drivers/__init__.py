"""One file per batch system: pure translations, no process is started here."""
