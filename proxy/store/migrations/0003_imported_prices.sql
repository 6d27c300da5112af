-- The price lists that were imported last: one row, or none.

CREATE TABLE price_import (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    file TEXT NOT NULL,  -- its name, for people
    imported_ms INTEGER NOT NULL,
    lists TEXT NOT NULL  -- JSON array of price lists, each of a preset, a region and a currency
) STRICT;
