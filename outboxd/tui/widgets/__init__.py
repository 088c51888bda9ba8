"""Widgets of the dashboard: each is given what to show, and says what a person did to it."""
