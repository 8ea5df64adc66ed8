// Package changestream is the read path: it queries a Spanner change stream, decodes its records straight into changes,
// and yields them as frames, each complete through a commit timestamp and in position order. The partition graph, which
// says when a partition may deliver, is a pure state machine here; the engine drives it.
//
// The package does not know sinks exist.
package changestream
