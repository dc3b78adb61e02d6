-- The sessions of a store: one row a client. Packages of more than 1 KiB have rows of their own.
CREATE TABLE cloakroom_meta (
  one      smallint PRIMARY KEY CHECK (one = 1),
  format   integer  NOT NULL, -- the number of the last migration
  identity bytea    NOT NULL, -- random; made with the store
  epoch    bigint   NOT NULL, -- counts the changes of the settings
  settings bytea    NOT NULL, -- the containers and the secrets of the client ids, as of this epoch
  keys     bytea              -- which keys records are encrypted with; null: none
);

CREATE TABLE cloakroom_lease (
  what   smallint PRIMARY KEY,
  holder bytea    NOT NULL,
  until  bigint   NOT NULL    -- by the server's clock, in milliseconds
);

CREATE TABLE cloakroom_client (
  client   uuid    PRIMARY KEY, -- the client key, 128 random bits
  version  bigint  NOT NULL,    -- random; the number of the last commit; compared for equality only
  past     bytea   NOT NULL,    -- the numbers of the commits before, to look up an unknown outcome
  seen     bytea   NOT NULL,    -- the access times; an access changes this alone
  body     bytea,               -- the sessions, and their packages of up to 1 KiB; null: no session
  ended    bytea,               -- how a session ended that was here before
  owners   bytea[],             -- the hashes of the sessions' owners
  sweep_at bigint,              -- without sessions: when the row may go, in milliseconds. With sessions: the
                                -- time from which a sweep looks at them. Accesses leave it as it is.
  spilled  integer NOT NULL,    -- how many packages have rows of their own
  -- for the indexes: were `body` in their conditions, each commit would make new entries in all of them
  has_sessions boolean NOT NULL GENERATED ALWAYS AS (body IS NOT NULL) STORED
);

CREATE TABLE cloakroom_package (
  client uuid  NOT NULL,
  place  bytea NOT NULL,        -- the number of the container, then the package
  body   bytea NOT NULL,
  PRIMARY KEY (client, place)
);

CREATE INDEX cloakroom_client_sweep_at ON cloakroom_client (sweep_at) WHERE has_sessions;
CREATE INDEX cloakroom_client_gone ON cloakroom_client (sweep_at) WHERE NOT has_sessions;
CREATE INDEX cloakroom_client_owners ON cloakroom_client USING gin (owners) WITH (fastupdate = off);
