"""Items as a table: their columns, cells, times and grids."""
