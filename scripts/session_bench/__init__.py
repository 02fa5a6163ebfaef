"""Parts of bench_sessions.py: conversations, vendors with a cache, the clients, and the table."""
