"""HTML pages and plots of reports."""
