"""Pictures of what the rest of this package computed; they need the extra "plot"."""
