package state

import (
	"context"

	"github.com/spanledger/spanledger/change"
)

// Store keeps a pipeline's state. Its methods may be called from several goroutines. All of them return an error that
// wraps the context's when it ends first.
type Store interface {
	Incarnations

	// Open returns the pipeline named in c, made in its first incarnation if there is none. It is a *MismatchError when the
	// pipeline there reads another database or stream or has another config digest: an operator must open a new incarnation.
	Open(ctx context.Context, c Config) (Pipeline, error)

	// Claim makes worker the owner of every unfinished partition of the pipeline, present and future, at a new epoch: one
	// more than the highest any worker ever had. From its return on, Commit refuses the epochs before (I4).
	Claim(ctx context.Context, pipeline, worker string) (Lease, error)

	// Load reads everything the engine needs to go on, at one timestamp.
	Load(ctx context.Context, pipeline string) (Snapshot, error)

	// Commit stores the updates in one transaction each partition or more at a time: an update is stored whole or not at
	// all. Updates whose lease is no longer current are dropped and their tokens returned; the others are stored. Within an
	// update children are inserted if absent, so announcing one twice, or by two parents, is harmless (I3). Progress and
	// table versions never go back: a lower Through is ignored (I5). A segment that is already listed is left as it is.
	// Updates may be split over several Spanner transactions below the mutation limit, never inside one update.
	Commit(ctx context.Context, lease Lease, updates []Update) (fenced []string, err error)

	// RequestSnapshot asks the pipeline's worker to take the rows of s.Table between s.From and s.To. It needs no lease. If a
	// snapshot of the same rows is unfinished, that is answered and isNew is false: asking again is harmless.
	RequestSnapshot(ctx context.Context, pipeline string, s TableSnapshot) (got TableSnapshot, isNew bool, err error)

	// Snapshots lists the current incarnation's snapshots by number: all of them, or the unfinished ones only.
	Snapshots(ctx context.Context, pipeline string, unfinished bool) ([]TableSnapshot, error)

	// Segments calls fn for each recorded archive segment of a sink, ordered by chain and first position, until fn returns
	// an error, which it returns.
	Segments(ctx context.Context, pipeline, sink string, fn func(change.Segment) error) error
}

// Config is what a pipeline is: it may not change within an incarnation.
type Config struct {
	// Pipeline is the pipeline's name: 1 to 64 of [a-z0-9-], a letter first.
	Pipeline string
	// Database is the source database's full name and Stream its change stream; Identity tells two databases of the same
	// name apart (the stream's creation or whatever the caller takes; compared as a string).
	Database, Stream, Identity string
	// Digest is the digest of the configuration that decides what is delivered: filters, dropped columns.
	Digest string
	// Start is where a first incarnation begins. With Snapshot it also takes the rows of every watched table, as they are
	// then.
	Start    change.Timestamp
	Snapshot bool
}

// Pipeline is a stored pipeline in its current incarnation.
type Pipeline struct {
	Config
	// Incarnation counts from 1.
	Incarnation int64
	// Created is set when this Open made the pipeline.
	Created bool
}

// Lease is a worker's ownership. One worker owns all partitions until the pipeline is scaled out.
type Lease struct {
	Pipeline    string
	Incarnation int64
	Worker      string
	Epoch       int64
}

// PartitionState is how far a partition's life has come.
type PartitionState string

// The states of a partition.
const (
	// Open: known and not finished, whether or not it is being read.
	Open PartitionState = "open"
	// Finished: its end was read, every sink is through it and its children are stored.
	Finished PartitionState = "finished"
)

// Partition is a stored partition.
type Partition struct {
	change.Partition
	State PartitionState
	// End is when a finished partition ended: its children's start; zero while open.
	End   change.Timestamp
	Owner string
	Epoch int64
}

// Progress is how far one sink is durable in one partition: its checkpoint.
type Progress struct {
	Token, Sink string
	// Through promises that every change of the partition with a commit timestamp at or below it is durable in the sink (I2).
	Through change.Timestamp
	// Chains are the ends of the partition's chains in this sink, by table; empty for at-least-once sinks.
	Chains []ChainEnd
}

// ChainEnd is a stored chain end; see sinks.End.
type ChainEnd struct {
	Table   string
	Through change.Position
	State   []byte
}

// Snapshot is a pipeline's whole state.
type Snapshot struct {
	Pipeline Pipeline
	// Partitions are the change stream's. Progress is theirs and the unfinished snapshots'.
	Partitions []Partition
	Progress   []Progress
	// Snapshots are the unfinished ones, by number.
	Snapshots []TableSnapshot
	// Tables are the latest versions of the schema unions.
	Tables []*change.Table
}

// Update is what changes in one partition at a time. The zero fields leave things as they are.
type Update struct {
	// Token is the partition's; "" for the update that inserts an initial query's partitions (as Children), and for one
	// that only has Tables and Snapshots.
	Token string
	// Children are partitions discovered in this one, to insert if absent. They are stored no later than Finished (I3).
	Children []change.Partition
	// Progress are new checkpoints in this partition. A Chains entry replaces the one of its table; others stay.
	Progress []Progress
	// Finished marks the partition finished at End, its children's start. Both in one update with the last Progress.
	Finished bool
	End      change.Timestamp
	// Segments are archive objects made durable since the last update, by sink.
	Segments []SinkSegment
	// Snapshots replace the rows of the same numbers; with the number 0 they are requests, as of RequestSnapshot. One that
	// has ended stays as it is.
	Snapshots []TableSnapshot
	// Tables are new versions of schema unions. Lower versions than the stored ones are ignored.
	Tables []*change.Table
}

// SinkSegment is an archive segment with the sink that wrote it.
type SinkSegment struct {
	Sink string
	change.Segment
}
