"""What a machine offers: profiles of public machines; no cluster is started here."""
