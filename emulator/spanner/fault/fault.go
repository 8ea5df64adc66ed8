// Package fault says what may go wrong in the embedded Spanner, and when: the faults by name, plans of them as text, and
// the injector that decides for each call. What a fault does on the wire is package server's.
//
// # Plans
//
// A plan is a list of rules, separated by semicolons or line ends. "seed=N" among them makes its chances repeatable; a line
// may end with a comment after "#".
//
//	seed=7; abort p=0.2; lost nth=3; cut after=5-20 p=0.1; stall for=2s every=10 method=Commit
//
// A rule is a fault's name and fields, NAME=VALUE; a value with spaces or semicolons stands in double quotes, as in Go. The
// faults are the [Kind] constants. Fields of every rule, all optional:
//
//	p=0.1          the chance at each opportunity, 0 to 1; default 1
//	nth=3          only the third opportunity, counted from 1
//	every=10       only each tenth opportunity
//	times=2        at most twice
//	method=Commit  only calls of this RPC; "*" is every one, "ChangeStream" the rows of change-stream queries
//	stream=NAME    only queries of this change stream
//
// and of some:
//
//	after=5        how many rows pass before the fault; after=5-20 draws a number for each; default 0
//	for=2s         how long it lasts, or the delay a client is told to wait
//	by=-1h         how far the clock jumps, forward or back
//	ddl="..."      the schema statement
//
// An opportunity is a call that the rule's method, or the one its fault usually strikes, and its stream name.
package fault

import "slices"

// Kind is a fault's name, as plans write it.
type Kind string

// The faults. "Before" faults have no effect on the database; all others leave what was done done.
const (
	// Abort answers a Commit with ABORTED before any effect, with RetryInfo if for is given.
	Abort Kind = "abort"
	// Unavailable answers any call with UNAVAILABLE before any effect.
	Unavailable Kind = "unavailable"
	// Lost carries a unary call out (a Commit unless method says otherwise) and then answers UNAVAILABLE.
	Lost Kind = "lost"
	// Exhausted answers any call with RESOURCE_EXHAUSTED before any effect, with RetryInfo if for is given.
	Exhausted Kind = "exhausted"
	// Stall holds a call up for a time: before anything happens, or a stream after some rows. The default is 1 s.
	Stall Kind = "stall"
	// Cut ends a stream with UNAVAILABLE after some rows.
	Cut Kind = "cut"
	// Reset ends a stream after some rows with the INTERNAL error that clients make of RST_STREAM.
	Reset Kind = "reset"
	// Cancel ends a stream after some rows with CANCELLED, though nobody has cancelled it.
	Cancel Kind = "cancel"
	// End ends the query of a partition with OK after some rows, without child partitions and before its end. Once a query
	// has begun to announce partitions it announces them all.
	End Kind = "end"
	// SlowHeartbeat makes the heartbeats of a change-stream query come at most each for, whatever it asked for. The default is 10 s.
	SlowHeartbeat Kind = "slow-heartbeat"
	// NoHeartbeat leaves the heartbeats of a change-stream query out.
	NoHeartbeat Kind = "no-heartbeat"
	// Replay gives all rows of a change-stream query the same resume token, and starts it over when it is resumed: what
	// Google's emulator does. Rows repeat.
	Replay Kind = "replay"
	// Jump moves the server's clock at a call.
	Jump Kind = "jump"
	// Expire makes what the change stream of a query has recorded so far expire, after some rows, as if its retention had
	// passed.
	Expire Kind = "expire"
	// Alter runs a schema statement after some rows of a change-stream query, or before a call of method.
	Alter Kind = "alter"
)

// ChangeStream is the Method of change-stream queries.
const ChangeStream = "ChangeStream"

// Point is where in a call a fault strikes.
type Point uint8

// The points of a call.
const (
	// Before any effect, of every call.
	Before Point = iota + 1
	// After the effect of a unary call, instead of its answer.
	After
	// Rows of a streaming call, after some of them.
	Rows
)

// spec is what a kind allows.
type spec struct {
	method string // the default; "*" is every method
	points []Point
	fields []string // beside the common ones
	needs  string   // a field that must be given
}

var specs = map[Kind]spec{
	Abort:         {method: "Commit", points: []Point{Before}, fields: []string{"for"}},
	Unavailable:   {method: "*", points: []Point{Before}},
	Lost:          {method: "Commit", points: []Point{After}},
	Exhausted:     {method: "*", points: []Point{Before}, fields: []string{"for"}},
	Stall:         {method: "*", points: []Point{Before, Rows}, fields: []string{"for", "after"}},
	Cut:           {method: ChangeStream, points: []Point{Rows}, fields: []string{"after"}},
	Reset:         {method: ChangeStream, points: []Point{Rows}, fields: []string{"after"}},
	Cancel:        {method: ChangeStream, points: []Point{Rows}, fields: []string{"after"}},
	End:           {method: ChangeStream, points: []Point{Rows}, fields: []string{"after"}},
	SlowHeartbeat: {method: ChangeStream, points: []Point{Rows}, fields: []string{"for"}},
	NoHeartbeat:   {method: ChangeStream, points: []Point{Rows}},
	Replay:        {method: ChangeStream, points: []Point{Rows}},
	Jump:          {method: "*", points: []Point{Before}, fields: []string{"by"}, needs: "by"},
	Expire:        {method: ChangeStream, points: []Point{Rows}, fields: []string{"after"}},
	Alter:         {method: ChangeStream, points: []Point{Before, Rows}, fields: []string{"after", "ddl"}, needs: "ddl"},
}

// Kinds are the names of all faults, sorted.
func Kinds() []Kind {
	var out []Kind
	for k := range specs {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// onStreamsOnly reports whether a kind makes sense for change-stream queries only.
func onStreamsOnly(k Kind) bool {
	switch k {
	case End, SlowHeartbeat, NoHeartbeat, Replay, Expire:
		return true
	}
	return false
}
