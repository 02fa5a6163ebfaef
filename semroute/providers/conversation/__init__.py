"""Messages and tools as they are given, made ready for formats that shape them differently."""
