"""Gateway: an HTTP server that speaks the vendors' formats and routes what it is asked."""
