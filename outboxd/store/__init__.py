"""SQLite: all that must commit together, one module per table; the only user of sqlite3."""
