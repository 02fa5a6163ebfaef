"""Parts of bench_sessions.py: conversations, vendors, clients, table."""
