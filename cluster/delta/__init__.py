"""Finding in an older file what a newer one consists of. Knows no site, no origin and no network."""
