"""How fast one Linear is, beside other libraries."""
