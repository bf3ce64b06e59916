CREATE TABLE public_prefixes (id TEXT NOT NULL UNIQUE, declaration TEXT NOT NULL, created_ms INTEGER NOT NULL) STRICT;
