// Package admin serves what an operator asks of a running process: /metrics for Prometheus, /healthz and /readyz for
// whatever keeps the process alive, /status.json for people and scripts, and the profiler where it is asked for.
//
// It shows only what the process knows of itself: no page asks Spanner or a sink, so none of them hangs with a dependency.
// There is no authentication; the server listens on loopback unless it is told otherwise.
package admin
