"""The dashboard: what monitor sees, live, and operate's requests on keys; a process of its own.

It needs nothing but a data directory, whether the daemon runs or not. Widgets get immutable
snapshots and post messages; only screens ask monitor and operate. Nothing below loads textual
before it is named.
"""
