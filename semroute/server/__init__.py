"""Gateway: HTTP server of the vendors' formats that routes requests."""
