"""What a report looks like: tables, charts, pages, contact sheets."""
