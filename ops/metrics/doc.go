// Package metrics exposes what pipelines do in Prometheus's format.
//
// A Metrics holds the numbers of one process. Each pipeline in it gets a Pipeline, which the engine and the reader tell of
// deliveries and failures, and which asks the engine's Status at each scrape; a scrape never asks Spanner or a sink.
//
// The names are a contract with dashboards and alerts: prefix spanledger_, base units, counters from 0 for every label set
// that can occur, instants instead of ages, and labels whose values are few and known: pipeline, sink, code, kind, event,
// phase. No label ever holds a partition's token, a key or an error's text.
package metrics
