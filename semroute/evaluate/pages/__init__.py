"""Self-contained HTML pages; they need the extras "report" and "plot"."""
