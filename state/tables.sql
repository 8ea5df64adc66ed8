-- The tables of Spanledger's state, GoogleSQL. Instants that the program decides on end in _time, commit timestamps of the
-- metadata database in _at. Positions are in their text form, which sorts as positions do. Every key begins with the
-- pipeline and goes on with an opaque token where there are many rows, so that load spreads over the tokens; no key begins
-- with something that rises, so there is no hot end.

-- A pipeline: which incarnation is current, and the claim in force. Every commit reads this row and checks its lease
-- against it; it is written by an open and a claim only, so commits share its lock. epoch is the highest any worker had.
CREATE TABLE IF NOT EXISTS spanledger_pipelines (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  epoch INT64 NOT NULL,
  claim_worker STRING(512) NOT NULL,
  claim_epoch INT64 NOT NULL,
  created_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline);

-- What a pipeline reads, by incarnation; never updated.
CREATE TABLE IF NOT EXISTS spanledger_incarnations (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  source_database STRING(MAX) NOT NULL,
  stream STRING(MAX) NOT NULL,
  identity STRING(MAX) NOT NULL,
  config_digest STRING(MAX) NOT NULL,
  start_time TIMESTAMP NOT NULL,
  start_snapshot BOOL NOT NULL,
  reason STRING(MAX) NOT NULL,
  opened_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation),
  INTERLEAVE IN PARENT spanledger_pipelines ON DELETE CASCADE;

-- The break that ended an incarnation: changes committed from from_time to to_time may be missing in every sink. to_time is
-- NULL until the next incarnation is opened.
CREATE TABLE IF NOT EXISTS spanledger_gaps (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  reason STRING(32) NOT NULL,
  detail STRING(MAX) NOT NULL,
  from_time TIMESTAMP NOT NULL,
  to_time TIMESTAMP,
  snapshot BOOL NOT NULL,
  found_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  closed_at TIMESTAMP OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation),
  INTERLEAVE IN PARENT spanledger_pipelines ON DELETE CASCADE;

-- The leases: one row and one renewal a worker. Apart from the pipeline's row, which a renewal must not lock.
CREATE TABLE IF NOT EXISTS spanledger_workers (
  pipeline STRING(64) NOT NULL,
  worker STRING(512) NOT NULL,
  epoch INT64 NOT NULL,
  started_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  renewed_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, worker);

-- The partition graph. owner and epoch count where the epoch is above the pipeline's claim: then this partition alone was
-- given away. Finished partitions are deleted when no change stream can keep their changes any longer.
CREATE TABLE IF NOT EXISTS spanledger_partitions (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  token STRING(MAX) NOT NULL,
  parents ARRAY<STRING(MAX)> NOT NULL,
  start_time TIMESTAMP NOT NULL,
  end_time TIMESTAMP,
  state STRING(16) NOT NULL,
  owner STRING(512) NOT NULL,
  epoch INT64 NOT NULL,
  created_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  finished_at TIMESTAMP OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation, token),
  ROW DELETION POLICY (OLDER_THAN(finished_at, INTERVAL 31 DAY));

-- Finds the unfinished partitions among a month of finished ones.
CREATE INDEX IF NOT EXISTS spanledger_partitions_by_state ON spanledger_partitions (pipeline, incarnation, state);

-- Checkpoints, beside their partition: the two are written together and so mostly on one split. chains holds the ends of
-- the partition's chains in this sink, ordered by table: [{"table": "t", "through": "position", "state": "base64"}, ...].
CREATE TABLE IF NOT EXISTS spanledger_progress (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  token STRING(MAX) NOT NULL,
  sink STRING(128) NOT NULL,
  through_time TIMESTAMP NOT NULL,
  chains JSON,
  updated_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation, token, sink),
  INTERLEAVE IN PARENT spanledger_partitions ON DELETE CASCADE;

-- Snapshots of tables, asked for and taken: how far each has come, and in chunks those of which the rows may not be durable in
-- every sink, with what is needed to read them again: [{"at": "time", "after": "key", "through": "key", "dropped": ["key", ...],
-- "rows": 1}, ...]. Keys are JSON arrays. A snapshot's progress in each sink is beside a row of spanledger_partitions with the
-- token snapshot/TABLE/NUMBER.
CREATE TABLE IF NOT EXISTS spanledger_snapshots (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  number INT64 NOT NULL,
  table_name STRING(512) NOT NULL,
  from_key STRING(MAX) NOT NULL,
  to_key STRING(MAX) NOT NULL,
  state STRING(16) NOT NULL,
  error STRING(MAX) NOT NULL,
  cursor_key STRING(MAX) NOT NULL,
  read_all BOOL NOT NULL,
  chunks JSON,
  total_rows INT64 NOT NULL,
  handed_rows INT64 NOT NULL,
  dropped_rows INT64 NOT NULL,
  chunks_anew INT64 NOT NULL,
  requested_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  changed_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation, number),
  INTERLEAVE IN PARENT spanledger_incarnations ON DELETE CASCADE;

-- The archive's segments. They outlive their partitions, so they are not beside them.
CREATE TABLE IF NOT EXISTS spanledger_segments (
  pipeline STRING(64) NOT NULL,
  sink STRING(128) NOT NULL,
  incarnation INT64 NOT NULL,
  token STRING(MAX) NOT NULL,
  table_name STRING(512) NOT NULL,
  first_position STRING(MAX) NOT NULL,
  last_position STRING(MAX) NOT NULL,
  object STRING(MAX) NOT NULL,
  generation INT64 NOT NULL,
  changes INT64 NOT NULL,
  size_bytes INT64 NOT NULL,
  sha256 STRING(MAX) NOT NULL,
  fingerprint STRING(MAX) NOT NULL,
  previous_sha256 STRING(MAX) NOT NULL,
  created_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, sink, incarnation, token, table_name, first_position);

-- The latest version of each table's schema union; columns as change.Column encodes them.
CREATE TABLE IF NOT EXISTS spanledger_schemas (
  pipeline STRING(64) NOT NULL,
  table_name STRING(512) NOT NULL,
  version INT64 NOT NULL,
  columns JSON NOT NULL,
  updated_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, table_name);

-- Who carries out a duty that one worker has for all, such as sealing an archive. note is the duty's own, written in the
-- transaction that proves the epoch: the head of the archive and its digest.
CREATE TABLE IF NOT EXISTS spanledger_elections (
  pipeline STRING(64) NOT NULL,
  duty STRING(256) NOT NULL,
  worker STRING(512) NOT NULL,
  epoch INT64 NOT NULL,
  note JSON,
  elected_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  renewed_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, duty);

-- Changes that a sink rejected (status rejected), those of the same keys held back behind them (parked), and what an
-- operator asked for (redrive, discard). They outlive their partitions.
CREATE TABLE IF NOT EXISTS spanledger_dead_letters (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  token STRING(MAX) NOT NULL,
  sink STRING(128) NOT NULL,
  position STRING(MAX) NOT NULL,
  table_name STRING(512) NOT NULL,
  row_key JSON NOT NULL,
  change BYTES(MAX) NOT NULL,
  status STRING(16) NOT NULL,
  reason STRING(MAX) NOT NULL,
  attempts INT64 NOT NULL,
  created_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  updated_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation, token, sink, position);
