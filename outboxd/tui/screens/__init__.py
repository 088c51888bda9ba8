"""The dashboard's screens: each reads its part of monitor and asks operate for what it does."""
