package ingest

// The names of what [DDL] creates.
const (
	Table   = "events"
	IDIndex = "events_by_id"
)

// DDL returns the GoogleSQL statements that create the events table and its
// index. They are part of what `spanledger init` runs.
//
// The index makes (stream, source, id) unique, which is what repeated appends
// are recognised by. A source may be empty but not NULL. The lengths keep the
// index key below Spanner's 8 KiB in the worst case of four bytes a character.
func DDL() []string {
	return []string{
		`CREATE TABLE events (
  stream STRING(512) NOT NULL,
  version INT64 NOT NULL,
  id STRING(128) NOT NULL,
  source STRING(1024) NOT NULL,
  type STRING(512) NOT NULL,
  subject STRING(2048),
  time TIMESTAMP,
  content_type STRING(256),
  schema STRING(1024),
  data JSON,
  data_bytes BYTES(MAX),
  metadata JSON,
  committed_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (stream, version)`,
		`CREATE UNIQUE INDEX events_by_id ON events (stream, source, id)`,
	}
}

// columns are those of the table, in its order.
var columns = []string{
	"stream", "version", "id", "source", "type", "subject", "time",
	"content_type", "schema", "data", "data_bytes", "metadata", "committed_at",
}
