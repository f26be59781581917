"""The doctor: what would go wrong here, found out before a cluster is started.

`probe` looks at one machine and runs anywhere; `trial` runs it in jobs; `checks_*` judge what was
seen; `profile_text` writes it down.  Who asks, and with which options, is not known here.
"""
