"""The page that `carfix compare --html` writes: one file, no network."""
