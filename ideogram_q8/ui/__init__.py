"""The browser interface: `studio` does the work, `page` puts the parts together, one file per tab."""
