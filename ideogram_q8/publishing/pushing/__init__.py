"""From a planned release to a repository on the Hub."""
