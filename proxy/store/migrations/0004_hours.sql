-- The last days hour by hour, for the console's overview: kept for HOURS_KEPT of proxy/store/hourly.py.

CREATE TABLE hourly_sums (
    hour INTEGER NOT NULL,  -- hours since 1970 UTC, of the admission
    account TEXT NOT NULL,
    key_id TEXT NOT NULL,
    provider TEXT NOT NULL,  -- '' when none answered
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    cost_nanos INTEGER NOT NULL,
    PRIMARY KEY (hour, account, key_id, provider, model)
) STRICT, WITHOUT ROWID;

-- How long the exchanges took that finished `ok`.
CREATE TABLE hourly_times (
    hour INTEGER NOT NULL,
    timing TEXT NOT NULL,  -- total_ms, first_output_ms
    bucket INTEGER NOT NULL,  -- of proxy/core/histogram.py
    exchanges INTEGER NOT NULL,
    PRIMARY KEY (hour, timing, bucket)
) STRICT, WITHOUT ROWID;

-- What older versions have recorded in the last eight days; how long it took is not carried over.
INSERT INTO hourly_sums
SELECT created_ms / 3600000, account, key_id, coalesce(provider, ''), model,
    count(*), sum(finish <> 'ok'), sum(input_tokens + output_tokens), sum(cost_nanos)
FROM exchanges
WHERE finish IS NOT NULL
    AND id >= printf('req_%012x', (CAST(strftime('%s', 'now') AS INTEGER) - 691200) * 1000)
GROUP BY 1, 2, 3, 4, 5;
