"""Where items come from: APIs, static catalogs, Parquet."""
